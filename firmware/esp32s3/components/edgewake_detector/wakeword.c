/* SPDX-License-Identifier: Apache-2.0 */
/* Which wake word runs, and how another one gets into its partition. */
#include "wakeword.h"

#include <string.h>

#include "esp_check.h"
#include "esp_log.h"
#include "esp_partition.h"

#include "detector.h"
#include "edgewake.h"
#include "ew_golden.h"
#include "ew_model_config.h"
#include "ew_model_data.h"
#include "ew_model_frontend.h"
#include "memory.h"

/* Of partitions.csv; application-defined data have subtypes from 0x40 on. */
#define NAME "edgewake"
#define SUBTYPE ((esp_partition_subtype_t)0x40)
#define SECTOR_BYTES 4096
#define BLOCK_BYTES 512

static const char *const TAG = "wakeword";

static ew_frontend_tables_t tables;

/* Pointers of a host are larger. */
_Static_assert(sizeof(void *) > 4 || sizeof tables + sizeof(ew_wakeword_t) <= EW_WAKEWORD_BYTES,
               "EW_WAKEWORD_BYTES in memory.h is too small");

ew_wakeword_t wakeword_built_in(void) {
    const ew_wakeword_t built_in = {
        .phrase = EW_MODEL_PHRASE,
        .sha256 = EW_MODEL_DATA_SHA256,
        .model = ew_model_data,
        .model_bytes = EW_MODEL_DATA_SIZE,
        .tables = ew_model_frontend_tables(),
        .pipeline = EW_MODEL_PIPELINE_CONFIG,
        .golden = EW_GOLDEN,
    };
    return built_in;
}

static ew_image_limits_t limits(void) {
    const ew_image_limits_t limits = {
        .kind = EW_MODEL_KIND,
        .structure = EW_MODEL_STRUCTURE,
        .sample_rate = EW_MODEL_SAMPLE_RATE,
        .frames_per_step = EW_MODEL_FRAMES_PER_STEP,
        .channels = EW_MODEL_CHANNELS,
        .work_bytes = EW_MODEL_WORK_BYTES,
        .tables = ew_model_frontend_tables(),
    };
    return limits;
}

static const esp_partition_t *partition_of_wakeword(void) {
    return esp_partition_find_first(ESP_PARTITION_TYPE_DATA, SUBTYPE, NAME);
}

bool wakeword_in_partition(ew_wakeword_t *wakeword) {
    const esp_partition_t *partition = partition_of_wakeword();
    if (partition == NULL) {
        ESP_LOGW(TAG, "no partition \"" NAME "\": see partitions.csv");
        return false;
    }
    const void *image = NULL;
    esp_partition_mmap_handle_t mapping;
    const esp_err_t error =
        esp_partition_mmap(partition, 0, partition->size, ESP_PARTITION_MMAP_DATA, &image, &mapping);
    if (error != ESP_OK) {
        ESP_LOGE(TAG, "the partition cannot be mapped: %s", esp_err_to_name(error));
        return false;
    }
    const ew_image_limits_t own = limits();
    const ew_image_fault_t fault = ew_image_open(image, partition->size, &own, &tables, wakeword);
    if (fault == EW_IMAGE_OK) {
        return true;
    }
    if (fault != EW_IMAGE_ERASED) {
        ESP_LOGW(TAG, "the wake word of the partition is refused: %s", ew_image_fault_name(fault));
    }
    esp_partition_munmap(mapping);
    return false;
}

/* Fills the buffer but for the end of the image; returns how many bytes came, or -1. */
static int read_block(edgewake_read_fn read, void *context, uint8_t *buffer, size_t size) {
    size_t count = 0;
    while (count < size) {
        const int taken = read(context, buffer + count, size - count);
        if (taken < 0 || (size_t)taken > size - count) {
            return -1;
        }
        if (taken == 0) {
            break;
        }
        count += (size_t)taken;
    }
    return (int)count;
}

esp_err_t edgewake_update(edgewake_read_fn read, void *context) {
    /* Writing to an encrypted partition goes by 16 bytes. */
    uint8_t block[BLOCK_BYTES] __attribute__((aligned(EW_ALIGNMENT)));
    _Static_assert(sizeof block >= sizeof(ew_image_header_t) && sizeof block % 16 == 0, "BLOCK_BYTES");
    const esp_partition_t *partition = partition_of_wakeword();
    ESP_RETURN_ON_FALSE(partition != NULL, ESP_ERR_NOT_FOUND, TAG, "no partition \"" NAME "\": see partitions.csv");
    int count = read_block(read, context, block, sizeof block);
    ESP_RETURN_ON_FALSE(count == (int)sizeof block, ESP_ERR_INVALID_SIZE, TAG, "the image is cut off");
    const ew_image_limits_t own = limits();
    const ew_image_header_t *header = (const void *)block;
    const ew_image_fault_t fault = ew_image_check_header(header, partition->size, &own);
    ESP_RETURN_ON_FALSE(fault == EW_IMAGE_OK, ESP_ERR_INVALID_ARG, TAG, "the image is refused: %s",
                        ew_image_fault_name(fault));
    const size_t bytes = header->bytes;
    /* The model that runs may be read from the partition. */
    ESP_RETURN_ON_FALSE(detector_stop(), ESP_ERR_INVALID_STATE, TAG, "called from the inference task");
    ESP_RETURN_ON_ERROR(
        esp_partition_erase_range(partition, 0, (bytes + SECTOR_BYTES - 1) / SECTOR_BYTES * SECTOR_BYTES), TAG,
        "the partition cannot be erased");
    for (size_t written = 0; written < bytes; written += sizeof block) {
        if (written > 0) {
            const size_t rest = bytes - written < sizeof block ? bytes - written : sizeof block;
            memset(block, 0xff, sizeof block);
            count = read_block(read, context, block, rest);
            ESP_RETURN_ON_FALSE(count == (int)rest, ESP_ERR_INVALID_SIZE, TAG, "the image is cut off");
        }
        const size_t room = partition->size - written;
        ESP_RETURN_ON_ERROR(esp_partition_write(partition, written, block, room < sizeof block ? room : sizeof block),
                            TAG, "the partition cannot be written");
    }
    ew_wakeword_t wakeword;
    ESP_RETURN_ON_FALSE(wakeword_in_partition(&wakeword), ESP_ERR_INVALID_CRC, TAG, "the image came damaged");
    ESP_LOGI(TAG, "wake word \"%s\", model %.12s, is in the partition; it runs after a restart", wakeword.phrase,
             wakeword.sha256);
    return ESP_OK;
}
