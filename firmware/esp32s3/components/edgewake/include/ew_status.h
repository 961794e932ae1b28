/* The one result type of the core: every fallible function returns it, and EW_OK is 0. */
#ifndef EW_STATUS_H
#define EW_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    EW_OK = 0,
    EW_ERROR_NULL = 1,      /* a required pointer is NULL */
    EW_ERROR_ARGUMENT = 2,  /* a value or table is outside its documented range */
    EW_ERROR_MEMORY = 3,    /* the caller's memory is smaller than the size query says */
    EW_ERROR_ALIGNMENT = 4, /* the caller's memory is not aligned to EW_ALIGNMENT */
    EW_ERROR_INFERENCE = 5  /* the inference callback failed */
} ew_status_t;

/* Alignment in bytes of every memory block that a caller hands to an init function. */
#define EW_ALIGNMENT 16

#ifdef __cplusplus
}
#endif

#endif /* EW_STATUS_H */
