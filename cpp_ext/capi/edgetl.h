/* edgetl for programs without Python: a bundle is opened, a camera frame becomes its network's
 * input, the features that the network gives become probabilities, and what they get wrong is
 * learned. C99; the network itself is run by an engine of yours.
 *
 * Errors. Every function that can fail returns EDGETL_OK (0) or another edgetl_status, and never
 * throws or ends the program. edgetl_last_error() then says in words what was found. Outputs of a
 * call that failed mean nothing, except that a pointer to a handle was set to NULL.
 *
 * Threads. Everything may be called from several threads at once, with the same head or bundle too:
 * neither ever changes. A learner does change: one thread at a time may use one. Only freeing a
 * handle must wait until nobody uses it.
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
    EDGETL_IO = 3,            /* a file can't be read or written */
    EDGETL_CORRUPT = 4,       /* a file is not what it must be */
    EDGETL_NOT_FINITE = 5,    /* NaN or infinity among the features, or in a score of them */
    EDGETL_OUT_OF_MEMORY = 6, /* or more of it than addresses reach */
    EDGETL_INTERNAL = 7,      /* a bug of the library */
    /* Since 1.1: */
    EDGETL_SIGNATURE = 8, /* an update is not signed by the trusted key, or was changed since */
    EDGETL_BASE = 9,      /* an update was made for another bundle */
    EDGETL_STALE = 10     /* an update is older than what is there; or the bundle on the disk is no
                             longer the one that was opened */
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

/* Scores of features, and their softmax at the temperature that they were calibrated to. */
typedef struct edgetl_head edgetl_head;

/* Which scores. A file of arrays alone does not tell the first three apart: they score alike, and
 * learn differently. */
enum {
    EDGETL_LINEAR = 0, /* softmax, ridge or LDA: coef features + intercept */
    EDGETL_SOFTMAX = 1,
    EDGETL_RIDGE = 2,
    EDGETL_LDA = 3,
    EDGETL_PROTOTYPE = 4, /* cosines with the means of the classes */
    EDGETL_KNN = 5        /* votes of the nearest training samples, by cosine */
};

/* Reads the `head.safetensors` of a bundle, at most 1 GiB. An array that no head has is refused
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

/* EDGETL_LINEAR or another; EDGETL_LINEAR for NULL. Since 1.1. */
EDGETL_API int32_t edgetl_head_kind(const edgetl_head* head);

/* The name of a class in UTF-8, of a head that came from a bundle; otherwise, and beyond the last
 * class, NULL. Valid until the head is freed. Since 1.1. */
EDGETL_API const char* edgetl_head_name(const edgetl_head* head, size_t index);

/* Probabilities of n samples to `out`, which has `out_count` values: at least n rows of one value
 * per class. `features` is n rows of `dim` values, which must be edgetl_head_features(head). Equal
 * to Head.predict_proba of Python: to the bit for one sample as float32 of a linear head where both
 * have the compiled core, otherwise within rounding of float64. (Of neighbours that are alike to
 * within rounding of float32, Python may count others where it is given many samples at once.) */
EDGETL_API edgetl_status edgetl_head_probabilities(const edgetl_head* head, const float* features,
                                                   size_t n, size_t dim, double* out,
                                                   size_t out_count);

/* Writes the head's arrays, without names, for edgetl_head_load_file and for Python's load_head;
 * coefficients and means as float32. `path` holds the old content or the new one whole whenever the
 * machine stops: the new one is written beside it, made durable, and renamed. Since 1.1. */
EDGETL_API edgetl_status edgetl_head_save(const edgetl_head* head, const char* path);

/* ---- Bundles. Since 1.1 ---- */

/* One task of a bundle's folder: the preprocessing, the network's file and a head. */
typedef struct edgetl_bundle edgetl_bundle;

/* Opens the folder; formats 1, 2 and 3 of the manifest are read. `task` is the name of one of its
 * heads, NULL for the main one: a program with several opens the bundle once for each and runs the
 * network once for all. Proved are the manifest's own digest and the SHA-256 of the files read: the
 * head's and what it learns from; not the network's, see edgetl_bundle_check_graph. What was
 * learned by Python's Runtime and not saved is not seen. Free the bundle with edgetl_bundle_free.
 */
EDGETL_API edgetl_status edgetl_bundle_open(const char* folder, const char* task,
                                            edgetl_bundle** bundle);

/* NULL is allowed. */
EDGETL_API void edgetl_bundle_free(edgetl_bundle* bundle);

/* What prepares a frame for the network, to `options`, whose struct_size is set; `threads` becomes
 * 0. A network that takes uint8 gets EDGETL_UINT8 and EDGETL_NHWC. */
EDGETL_API edgetl_status edgetl_bundle_preprocess(const edgetl_bundle* bundle,
                                                  edgetl_preprocess_options* options);

/* Path of the network's ONNX file, in UTF-8; NULL for NULL. Valid until the bundle is freed. */
EDGETL_API const char* edgetl_bundle_graph(const edgetl_bundle* bundle);

/* Reads the network's file and compares its SHA-256: EDGETL_OK or EDGETL_CORRUPT. */
EDGETL_API edgetl_status edgetl_bundle_check_graph(const edgetl_bundle* bundle);

/* The head, with the names of its classes; NULL for NULL. It is the bundle's: don't free it. */
EDGETL_API const edgetl_head* edgetl_bundle_head(const edgetl_bundle* bundle);

/* How often the head changed since it was shipped: 0 as shipped, and for NULL. */
EDGETL_API int64_t edgetl_bundle_generation(const edgetl_bundle* bundle);

/* ---- Learning. Since 1.1 ---- */

/* A head on its way: it learns samples and classes, and gives heads that don't change. One thread
 * at a time; the heads that it gave may be used by others meanwhile. */
typedef struct edgetl_learner edgetl_learner;

/* Starts from the bundle's head and what the bundle has to learn on from; the bundle is not needed
 * afterwards. Ridge and LDA go on from their statistics, else from the kept samples, of which there
 * must be some of every class: EDGETL_UNSUPPORTED otherwise, for a network with the head inside,
 * and for a head that a method fitted to more than samples, such as those of another domain.
 * Memory: 4 dim^2 bytes for ridge and LDA, three times that while LDA learns, and what is kept.
 * O(dim^3) for LDA, or O(n dim^2) for n kept samples. */
EDGETL_API edgetl_status edgetl_learner_open(const edgetl_bundle* bundle, edgetl_learner** learner);

/* The same from a head and the bytes of its `learning.safetensors` (NULL and 0 without). `kind`
 * says which one an EDGETL_LINEAR is; of others it must be their own. */
EDGETL_API edgetl_status edgetl_learner_create(const edgetl_head* head, int32_t kind,
                                               const void* learning, size_t bytes,
                                               edgetl_learner** learner);

/* NULL is allowed. */
EDGETL_API void edgetl_learner_free(edgetl_learner* learner);

/* Learns n samples, n at least 1, as Head.partial_fit of Python does, to within rounding:
 * prototype, ridge and LDA exactly as if all had been there from the beginning; knn keeps them;
 * softmax takes one step for each, in turn, and forgets what is not shown again: see
 * edgetl_learner_rehearse.
 *
 *   names    of each sample's class, in UTF-8; one that is new becomes the last class. A head
 *            without names is refused: it learns by edgetl_learner_learn_labels.
 *   weights  of each sample, positive: how many times it counts, so more than 1 for a correction.
 *            NULL for ones.
 *
 * Refused as a whole, with nothing learned, unless everything is finite. O(n dim^2) for ridge; LDA
 * solves once per call, O(dim^3). */
EDGETL_API edgetl_status edgetl_learner_learn(edgetl_learner* learner, const float* features,
                                              size_t n, size_t dim, const char* const* names,
                                              const double* weights);

/* The same with numbers as labels, for heads without names: those of edgetl_head_labels, or 0 and
 * up where that is NULL. Classes stay in rising order, so a new one may move others. */
EDGETL_API edgetl_status edgetl_learner_learn_labels(edgetl_learner* learner, const float* features,
                                                     size_t n, size_t dim, const int64_t* labels,
                                                     const double* weights);

/* Takes `steps` steps of gradient descent, each on 32 samples drawn from the kept ones and those
 * that this learner learned, all classes alike: what a softmax head needs to remember. Kept are at
 * most as many samples as the bundle has, or 2 MB at 2 bytes per feature. Other heads have nothing
 * to rehearse: EDGETL_OK at once. */
EDGETL_API edgetl_status edgetl_learner_rehearse(edgetl_learner* learner, size_t steps);

/* Removes a class. Of prototype and knn heads no trace stays. Refused for a class that is not
 * there, and for one of the last two. */
EDGETL_API edgetl_status edgetl_learner_forget(edgetl_learner* learner, const char* name);
EDGETL_API edgetl_status edgetl_learner_forget_label(edgetl_learner* learner, int64_t label);

/* What was learned so far, as a head of its own; free it with edgetl_head_free. */
EDGETL_API edgetl_status edgetl_learner_head(const edgetl_learner* learner, edgetl_head** head);

/* Makes what was learned the bundle's head, in its folder: a new file of arrays, one of what to
 * learn on from, then the manifest, by one rename. Whenever the machine stops, the folder holds the
 * old bundle or the new one, whole. The generation is one more. `updated`, unless it is NULL,
 * becomes the bundle as it now is; `bundle` itself stays as it was opened. O(dim^3) for LDA. The
 * learner must come from edgetl_learner_open of this bundle; after a commit it goes on with
 * `updated`. EDGETL_STALE if the manifest changed on the disk since the bundle was opened;
 * EDGETL_UNSUPPORTED, as of edgetl_delta_apply, if Python's Runtime learned in this folder and has
 * its own history there (updates.sqlite). */
EDGETL_API edgetl_status edgetl_bundle_commit(const edgetl_bundle* bundle, edgetl_learner* learner,
                                              edgetl_bundle** updated);

/* ---- Signed updates. Since 1.1 ---- */

/* Applies a head update (.etlh, from `edgetl diff --sign`) to the bundle's folder, as
 * edgetl_bundle_commit does, if it is signed by the owner of the ed25519 `public_key` (32 bytes)
 * and made for this bundle. Otherwise nothing is changed, and the status says why: EDGETL_CORRUPT,
 * EDGETL_SIGNATURE, EDGETL_BASE or EDGETL_STALE. The generation becomes the update's number, or one
 * more if that is higher; the head that it replaces stays in the folder, and `edgetl rollback` puts
 * it back. `updated` as in edgetl_bundle_commit. */
EDGETL_API edgetl_status edgetl_delta_apply(const edgetl_bundle* bundle, const void* delta,
                                            size_t bytes, const uint8_t* public_key,
                                            edgetl_bundle** updated);

#ifdef __cplusplus
}
#endif

#endif
