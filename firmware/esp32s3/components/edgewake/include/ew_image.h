/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ew_image.h
 * @brief A wake word in one block of bytes, edgewake.bin: it is read in place, and only if it is whole and fits the firmware.
 *
 * An image holds a model, the tables of its frontend, cutoff and smoothing, golden vectors and the phrase. Whoever may
 * have made it, ew_image_open() reads nothing outside of the block and writes nothing but its result, and what it
 * accepts is safe for frontend, pipeline and the model's kernels, because
 *  - of the model only numbers may differ: image and firmware name the places of weights, biases, scales and states, and
 *    everything else (operators, options, shapes, tensors, offsets) must have the SHA-256 that was compiled into the
 *    firmware. So it also needs the memory that was compiled in;
 *  - each number is within the range that stands beside its place, under the same SHA-256;
 *  - sizes of arrays are those that their users take, the transform's constants are the firmware's own, and every
 *    parameter is in the range that frontend and pipeline document.
 *
 * Whether the values are right is for ew_selftest_run() to say, with the image's own golden vectors.
 *
 * Format, version 1, little-endian, to be read on little-endian machines: a header (ew_image_header_t), then sections,
 * each at a multiple of EW_ALIGNMENT.
 */
#ifndef EW_IMAGE_H
#define EW_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "ew_selftest.h"

#ifdef __cplusplus
extern "C" {
#endif

#define EW_IMAGE_MAGIC "edgewake" /**< 8 bytes, without a zero. */
#define EW_IMAGE_VERSION 1
#define EW_IMAGE_STRUCTURE_BYTES 32
#define EW_IMAGE_MAX_PHRASE_BYTES 128 /**< Of UTF-8, with the final zero. */

/** What the model's bytes are. */
typedef enum {
    EW_IMAGE_TFLITE = 1, /**< A .tflite, for TensorFlow Lite Micro. */
    EW_IMAGE_WEIGHTS = 2 /**< Weights and other numbers of a network that is compiled into the firmware. */
} ew_image_kind_t;

/** Parts of an image, by their place in the header; types as in the structures that they fill. */
typedef enum {
    EW_IMAGE_PHRASE = 0,
    EW_IMAGE_MODEL,
    EW_IMAGE_NUMBERS, /**< ew_image_numbers_t[], by ascending offset. */
    EW_IMAGE_PROBABILITIES,
    EW_IMAGE_WINDOW, /**< This one to EW_IMAGE_LOG_LUT: arrays of ew_frontend_tables_t. */
    EW_IMAGE_BANDS,
    EW_IMAGE_FRONTEND_WEIGHTS,
    EW_IMAGE_UNWEIGHTS,
    EW_IMAGE_GAIN_LUT, /**< Empty without gain control. */
    EW_IMAGE_LOG_LUT,
    EW_IMAGE_SAMPLES, /**< This one to EW_IMAGE_DETECTIONS: arrays of ew_golden_t. */
    EW_IMAGE_FEATURES,
    EW_IMAGE_OUTPUTS,
    EW_IMAGE_SUMS,
    EW_IMAGE_DETECTIONS,
    EW_IMAGE_SECTIONS /**< How many there are. */
} ew_image_section_t;

/** `count` numbers that lie one after the other in the model. */
typedef struct {
    uint32_t offset; /**< From the model's first byte, a multiple of `width`. */
    uint32_t count;
    uint32_t width; /**< 1 or 4: int8 or int32; a float32 that is positive is in the order of its bits as an int32. */
    int32_t low;    /**< Smallest value allowed. */
    int32_t high;   /**< Largest value allowed. */
} ew_image_numbers_t;

/** The first bytes of an image. All members lie without gaps. */
typedef struct {
    uint8_t magic[8]; /**< EW_IMAGE_MAGIC. */
    uint32_t crc;     /**< CRC-32 (that of zlib) of all bytes after this member. */
    uint32_t version; /**< EW_IMAGE_VERSION. */
    uint32_t kind;    /**< An ew_image_kind_t. */
    uint32_t bytes;   /**< Of the whole image. */
    char sha256[64];  /**< Of the .tflite that the model comes from, in hexadecimal digits: a name for logs. */
    uint8_t
        structure[EW_IMAGE_STRUCTURE_BYTES]; /**< SHA-256 of the numbers' section and the model without its numbers. */
    uint32_t sample_rate;                    /**< Hz. */
    uint32_t frontend_hash[2];               /**< The low and the high half. */
    uint32_t window_samples, step_samples, fft_size, noise_reduction, smoothing_bits, even_smoothing, odd_smoothing,
        min_signal_remaining, pcan, snr_shift, correction_bits, scale_shift; /**< As in ew_frontend_tables_t. */
    uint32_t frames_per_step, channels, multiplier, shift;                   /**< As in ew_pipeline_config_t. */
    int32_t zero_point;
    uint32_t window, cutoff_sum, refractory_steps;
    struct {
        uint32_t offset; /**< From the image's first byte. */
        uint32_t bytes;
    } sections[EW_IMAGE_SECTIONS];
} ew_image_header_t;

/** What the firmware was compiled for. */
typedef struct {
    uint32_t kind; /**< An ew_image_kind_t. */
    uint8_t structure[EW_IMAGE_STRUCTURE_BYTES];
    uint32_t sample_rate;     /**< Hz, of the microphone. */
    uint32_t frames_per_step; /**< With `channels`, the model's input. */
    uint32_t channels;
    size_t work_bytes;                  /**< Memory for the self-test and the pipeline. */
    const ew_frontend_tables_t *tables; /**< Whose constants of the transform every image uses. */
} ew_image_limits_t;

/** A wake word: of an image, or the one that is compiled in. What it points to must outlive it. */
typedef struct {
    const char *phrase; /**< UTF-8 without control characters, ending with zero. */
    const char *sha256; /**< At least 64 hexadecimal digits. */
    const uint8_t *model;
    size_t model_bytes;
    const ew_frontend_tables_t *tables;
    ew_pipeline_config_t pipeline;
    ew_golden_t golden;
} ew_wakeword_t;

/** What an image is refused for. */
typedef enum {
    EW_IMAGE_OK = 0,
    EW_IMAGE_ERASED,
    EW_IMAGE_OTHER_MAGIC,
    EW_IMAGE_OTHER_VERSION,
    EW_IMAGE_OTHER_KIND,
    EW_IMAGE_OTHER_STRUCTURE,
    EW_IMAGE_OTHER_AUDIO,
    EW_IMAGE_BAD_SIZE,
    EW_IMAGE_BAD_CRC,
    EW_IMAGE_BAD_SECTION,
    EW_IMAGE_BAD_PHRASE,
    EW_IMAGE_BAD_NUMBER,
    EW_IMAGE_BAD_FRONTEND,
    EW_IMAGE_BAD_PIPELINE,
    EW_IMAGE_BAD_GOLDEN,
    EW_IMAGE_TOO_LITTLE_MEMORY
} ew_image_fault_t;

/**
 * @brief Says whether an image may fit from its header alone, before the rest of it is there.
 *
 * @param[in] header  the first sizeof(ew_image_header_t) bytes of an image, aligned to 4
 * @param[in] size    bytes that there is room for
 * @param[in] limits  what the firmware was compiled for
 * @return EW_IMAGE_OK, or the first reason against it
 */
ew_image_fault_t ew_image_check_header(const ew_image_header_t *header, size_t size, const ew_image_limits_t *limits);

/**
 * @brief Checks an image whole, and says where in it everything is.
 *
 * @param[in]  bytes     aligned to EW_ALIGNMENT; it must outlive what it gives, and not change meanwhile
 * @param[in]  size      readable bytes; those after the image may be any
 * @param[in]  limits    what the firmware was compiled for
 * @param[out] tables    memory for the frontend's constants, which must outlive `wakeword`
 * @param[out] wakeword  written when the image is accepted
 * @return EW_IMAGE_OK, or the first reason against it
 */
ew_image_fault_t ew_image_open(const void *bytes, size_t size, const ew_image_limits_t *limits,
                               ew_frontend_tables_t *tables, ew_wakeword_t *wakeword);

/** @brief What is wrong, for a log line; never NULL. */
const char *ew_image_fault_name(ew_image_fault_t fault);

#ifdef __cplusplus
}
#endif

#endif /* EW_IMAGE_H */
