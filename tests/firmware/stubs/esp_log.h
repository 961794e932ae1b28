/* SPDX-License-Identifier: Apache-2.0 */
/* Macros as in ESP-IDF 5.3, components/log/include/esp_log.h; lines go to standard output. */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

void host_log(char level, const char *tag, const char *format, ...) __attribute__((format(printf, 3, 4)));

#ifdef __cplusplus
}
#endif

#define ESP_LOGE(tag, format, ...) host_log('E', tag, format, ##__VA_ARGS__)
#define ESP_LOGW(tag, format, ...) host_log('W', tag, format, ##__VA_ARGS__)
#define ESP_LOGI(tag, format, ...) host_log('I', tag, format, ##__VA_ARGS__)
