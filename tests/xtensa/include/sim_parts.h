/* SPDX-License-Identifier: Apache-2.0 */
/* Names the parts of a frame for the sources of the core, each of which calls sim_part() as it begins. */
#if !defined(SIM_PARTS_H) && !defined(__ASSEMBLER__)
#define SIM_PARTS_H

enum sim_part {
    SIM_PART_samples, /* what is outside of the others: copies of samples */
    SIM_PART_window,
    SIM_PART_transform,
    SIM_PART_bins,
    SIM_PART_filterbank,
    SIM_PART_noise,
    SIM_PART_gain,
    SIM_PART_logarithm,
    SIM_PARTS
};

void sim_part(enum sim_part part);

#define EW_PART(name) sim_part(SIM_PART_##name)

#endif /* SIM_PARTS_H */
