"""C code on an emulated Xtensa; a package, since benchmarks/xtensa.py has the same name and would be found instead."""
