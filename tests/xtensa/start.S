/* SPDX-License-Identifier: Apache-2.0 */
/* From reset to main() on a core of the call0 ABI, and the system calls of QEMU's semihosting. */
    .section .reset, "ax"
    .global _start
_start:
    j 1f
    .align 4
    .literal_position
1:
    /* PS without EXCM, under which hardware loops do not loop; interrupts stay off. */
    movi a0, 15
    wsr a0, ps
    rsync
    movi sp, sim_stack_top
    movi a0, sim_main
    callx0 a0

    .text
    .literal_position
    .global sim_call
    .align 4
    /* int32_t sim_call(int32_t number, int32_t a, int32_t b, int32_t c): as QEMU takes it, in a2 to a5; result in a2. */
sim_call:
    simcall
    ret

    .global sim_now
    .align 4
sim_now:
    rsr a2, ccount
    ret
