/* edgetl for programs without Python: a camera frame becomes a network's input, and the features
 * that the network gives become probabilities. C99; the network itself is run by an engine of
 * yours.
 *
 * Errors. Every function that can fail returns EDGETL_OK (0) or another edgetl_status, and never
 * throws or ends the program. edgetl_last_error() then says in words what was found. Outputs of a
 * call that failed mean nothing, except that a pointer to a handle was set to NULL.
 *
 * Threads. Everything may be called from several threads at once, with the same head too: a head
 * never changes. Only freeing a head must wait until nobody uses it.
 *
 * Memory. Arrays belong to the caller, have no gaps unless a stride says so, and are not kept after
 * the call. Outputs must not overlap inputs.
 *
 * Growth. Structures begin with their size as the program was compiled: set them to zero (or
 * `= {0}`), then set `struct_size = sizeof(the structure)`. A newer library takes older, shorter
 * structures; an older one takes newer, longer ones as long as what it does not know is zero. */
#ifndef EDGETL_H
#define EDGETL_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && defined(EDGETL_BUILD_SHARED)
#define EDGETL_API __declspec(dllexport)
#elif defined(__GNUC__)
#define EDGETL_API __attribute__((visibility("default")))
#else
#define EDGETL_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Changes when a program has to be compiled again. */
#define EDGETL_ABI_VERSION 1

/* EDGETL_ABI_VERSION of the library that is loaded. */
EDGETL_API uint32_t edgetl_abi_version(void);

typedef enum edgetl_status {
    EDGETL_OK = 0,
    EDGETL_INVALID = 1,       /* an argument: a null pointer, a size, a value out of range */
    EDGETL_UNSUPPORTED = 2,   /* well formed, but beyond what this version knows */
    EDGETL_IO = 3,            /* a file can't be read */
    EDGETL_CORRUPT = 4,       /* a file is not what it must be */
    EDGETL_NOT_FINITE = 5,    /* NaN or infinity among the features, or in a score of them */
    EDGETL_OUT_OF_MEMORY = 6, /* or more of it than addresses reach */
    EDGETL_INTERNAL = 7       /* a bug of the library */
} edgetl_status;

/* What the last call of this thread that failed found: English, at most 511 bytes.
 * Never NULL; valid until the thread's next call that fails. */
EDGETL_API const char* edgetl_last_error(void);

/* ---- Preprocessing ---- */

/* Order of the bytes in memory, 8 bits each.
 *
 * EDGETL_NV12 and EDGETL_NV21 have a plane of Y, one per pixel, and a plane of pairs, U before V
 * and V before U, one pair for 2 x 2 pixels: (width + 1) / 2 pairs in each of (height + 1) / 2
 * rows. They become RGB by BT.601; a pair counts for its 2 x 2 pixels without interpolation. With
 * u = U - 128 and v = V - 128, all in integers:
 *
 *   EDGETL_FULL     y = 65536 Y
 *                   R = byte(y + 91881 v)
 *                   G = byte(y - 22553 u - 46802 v)
 *                   B = byte(y + 116130 u)
 *
 *   EDGETL_LIMITED  y = 76309 (Y - 16)
 *                   R = byte(y + 104597 v)
 *                   G = byte(y - 25675 u - 53279 v)
 *                   B = byte(y + 132201 u)
 *
 * where byte(x) = (x + 32768) / 65536 rounded down, then clamped to 0 to 255. The numbers are
 * BT.601's real ones times 65536, rounded. */
enum {
    EDGETL_RGB = 1,
    EDGETL_BGR = 2,
    EDGETL_RGBA = 3, /* alpha is ignored, here and below */
    EDGETL_BGRA = 4,
    EDGETL_NV12 = 5,
    EDGETL_NV21 = 6
};

/* Which values of Y, U and V are used; of EDGETL_NV12 and EDGETL_NV21 alone. */
enum {
    EDGETL_LIMITED = 0, /* Y 16 to 235, U and V 16 to 240: video, most cameras */
    EDGETL_FULL = 1     /* 0 to 255: as in JPEG files */
};

typedef struct edgetl_frame {
    size_t struct_size;
    int32_t format;
    int32_t range;
    int32_t width;    /* in pixels, 1 to 1048576, as the planes hold them */
    int32_t height;   /* likewise */
    int32_t rotation; /* 0, 90, 180 or 270: degrees clockwise that bring the frame upright */
    int32_t reserved; /* 0 */
    const uint8_t* planes[2]; /* the first byte of the top row; the second of NV12 and NV21 alone */
    int64_t strides[2];       /* bytes from a row to the one below: negative for bottom-up, at least
                                 as many as a row has pixels; 0 for a row's own length */
} edgetl_frame;

enum { EDGETL_BICUBIC = 0, EDGETL_BILINEAR = 1 }; /* antialiased; bicubic with a = -0.5 */
enum { EDGETL_SHORTEST = 0, EDGETL_SQUASH = 1 };  /* what `resize` is: the shorter side, or both */
enum { EDGETL_NCHW = 0, EDGETL_NHWC = 1 };        /* (3, size, size), or (size, size, 3) */
enum { EDGETL_FLOAT32 = 0, EDGETL_FLOAT16 = 1, EDGETL_UINT8 = 2 };

/* The `preprocess` of a bundle's manifest: the frame is resized, its centre is cropped, and each
 * channel becomes (value / 255 - mean) / std. EDGETL_UINT8 gives the cropped bytes as they are;
 * mean and std are then checked and not used. */
typedef struct edgetl_preprocess_options {
    size_t struct_size;
    int32_t size;   /* side of the output in pixels, 1 to `resize` */
    int32_t resize; /* in pixels, at most 16384 */
    int32_t interpolation;
    int32_t fit;
    int32_t layout;
    int32_t dtype;
    float mean[3];    /* of R, G and B on the 0-1 scale; finite */
    float std[3];     /* likewise; positive */
    int32_t threads;  /* at most so many; 0 for 1 */
    int32_t reserved; /* 0 */
} edgetl_preprocess_options;

/* Bytes of one output, to `bytes`. */
EDGETL_API edgetl_status edgetl_preprocess_bytes(const edgetl_preprocess_options* options,
                                                 size_t* bytes);

/* Writes one output, R first, to `out`, which has `out_bytes` bytes (at least what
 * edgetl_preprocess_bytes says) and is aligned for the type. Equal to the bit to what
 * edgetl.Preprocess makes of the same RGB. A frame of EDGETL_RGB with no rotation is read in place;
 * of any other, the part that the output depends on is converted into memory of the call. */
EDGETL_API edgetl_status edgetl_preprocess(const edgetl_frame* frame,
                                           const edgetl_preprocess_options* options, void* out,
                                           size_t out_bytes);

/* ---- Heads ---- */

/* A linear head (softmax, ridge or LDA): probabilities = softmax((coef features + intercept) / T).
 */
typedef struct edgetl_head edgetl_head;

/* Reads the `head.safetensors` of a bundle, at most 1 GiB. Anything but a linear head is refused
 * with EDGETL_UNSUPPORTED; a file with anything amiss, with EDGETL_CORRUPT. Free the head with
 * edgetl_head_free. */
EDGETL_API edgetl_status edgetl_head_load_file(const char* path, edgetl_head** head);

/* The same from memory, such as an app's asset; `data` is not needed afterwards. */
EDGETL_API edgetl_status edgetl_head_load_memory(const void* data, size_t bytes,
                                                 edgetl_head** head);

/* NULL is allowed. */
EDGETL_API void edgetl_head_free(edgetl_head* head);

/* Numbers of classes (at least 2) and of features (at least 1); 0 for NULL. */
EDGETL_API size_t edgetl_head_classes(const edgetl_head* head);
EDGETL_API size_t edgetl_head_features(const edgetl_head* head);

/* The label of each class, rising, if the labels are numbers; NULL if they are names, which the
 * bundle's manifest lists in the order of the classes. Valid until the head is freed. */
EDGETL_API const int64_t* edgetl_head_labels(const edgetl_head* head);

/* Probabilities of n samples to `out`, which has `out_count` values: at least n rows of one value
 * per class. `features` is n rows of `dim` values, which must be edgetl_head_features(head). Equal
 * to Head.predict_proba of Python: to the bit for one sample as float32 where both have the
 * compiled core, otherwise within rounding of float64. */
EDGETL_API edgetl_status edgetl_head_probabilities(const edgetl_head* head, const float* features,
                                                   size_t n, size_t dim, double* out,
                                                   size_t out_count);

#ifdef __cplusplus
}
#endif

#endif
