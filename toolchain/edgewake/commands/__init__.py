"""The commands of `edgewake.cli`, a module a group; they parse, call one function and print."""
