/* What Kotlin calls of edgetl.h: see Bundle.kt. Buffers are direct ones, which are read and written
 * where they lie; whatever fails becomes an IllegalStateException with edgetl's own words. */
#include <jni.h>
#include <stdlib.h>

#include "edgetl.h"

static const edgetl_bundle* bundle_of(jlong handle) {
    return (const edgetl_bundle*)(intptr_t)handle;
}

static const edgetl_head* head_of(jlong handle) {
    return edgetl_bundle_head(bundle_of(handle));
}

static void raise(JNIEnv* env, const char* words) {
    jclass kind = (*env)->FindClass(env, "java/lang/IllegalStateException");
    if (kind != NULL) (*env)->ThrowNew(env, kind, words);
}

static int failed(JNIEnv* env, edgetl_status status) {
    if (status != EDGETL_OK) raise(env, edgetl_last_error());
    return status != EDGETL_OK;
}

/* The memory of a direct buffer that has `bytes` bytes at least; NULL after raising. */
static void* memory(JNIEnv* env, jobject buffer, jlong bytes) {
    void* place = buffer == NULL ? NULL : (*env)->GetDirectBufferAddress(env, buffer);
    if (place == NULL || (*env)->GetDirectBufferCapacity(env, buffer) < bytes) {
        raise(env, "a buffer is not direct, or too small");
        return NULL;
    }
    return place;
}

static edgetl_preprocess_options options_of(JNIEnv* env, jlong handle, int* ok) {
    edgetl_preprocess_options options = {0};
    options.struct_size = sizeof options;
    *ok = !failed(env, edgetl_bundle_preprocess(bundle_of(handle), &options));
    return options;
}

JNIEXPORT jlong JNICALL Java_edgetl_Native_open(JNIEnv* env, jobject self, jstring folder) {
    edgetl_bundle* bundle = NULL;
    const char* path = (*env)->GetStringUTFChars(env, folder, NULL);
    (void)self;
    if (path == NULL) return 0;
    failed(env, edgetl_bundle_open(path, NULL, &bundle));
    (*env)->ReleaseStringUTFChars(env, folder, path);
    return (jlong)(intptr_t)bundle;
}

JNIEXPORT void JNICALL Java_edgetl_Native_close(JNIEnv* env, jobject self, jlong handle) {
    (void)env, (void)self;
    edgetl_bundle_free((edgetl_bundle*)(intptr_t)handle);
}

JNIEXPORT jstring JNICALL Java_edgetl_Native_graph(JNIEnv* env, jobject self, jlong handle) {
    (void)self;
    if (failed(env, edgetl_bundle_check_graph(bundle_of(handle)))) return NULL;
    return (*env)->NewStringUTF(env, edgetl_bundle_graph(bundle_of(handle)));
}

/* {side, layout, type, bytes of one input, features} */
JNIEXPORT jlongArray JNICALL Java_edgetl_Native_shape(JNIEnv* env, jobject self, jlong handle) {
    int ok = 0;
    size_t bytes = 0;
    const edgetl_preprocess_options options = options_of(env, handle, &ok);
    jlongArray result = NULL;
    (void)self;
    if (!ok || failed(env, edgetl_preprocess_bytes(&options, &bytes))) return NULL;
    result = (*env)->NewLongArray(env, 5);
    if (result != NULL) {
        const jlong values[5] = {options.size, options.layout, options.dtype, (jlong)bytes,
                                 (jlong)edgetl_head_features(head_of(handle))};
        (*env)->SetLongArrayRegion(env, result, 0, 5, values);
    }
    return result;
}

JNIEXPORT jobjectArray JNICALL Java_edgetl_Native_labels(JNIEnv* env, jobject self, jlong handle) {
    const edgetl_head* head = head_of(handle);
    const jsize count = (jsize)edgetl_head_classes(head);
    jclass kind = (*env)->FindClass(env, "java/lang/String");
    jobjectArray result = kind == NULL ? NULL : (*env)->NewObjectArray(env, count, kind, NULL);
    jsize i;
    (void)self;
    for (i = 0; result != NULL && i < count; ++i) {
        const char* name = edgetl_head_name(head, (size_t)i);
        jstring text = (*env)->NewStringUTF(env, name == NULL ? "" : name);
        if (text == NULL) return NULL;
        (*env)->SetObjectArrayElement(env, result, i, text);
        (*env)->DeleteLocalRef(env, text);
    }
    return result;
}

/* `second` is the plane of pairs of NV12 and NV21, else NULL; strides in bytes. */
JNIEXPORT void JNICALL Java_edgetl_Native_prepare(JNIEnv* env, jobject self, jlong handle,
                                                  jobject first, jlong first_stride, jobject second,
                                                  jlong second_stride, jint format, jint width,
                                                  jint height, jint rotation, jobject input) {
    int ok = 0;
    size_t bytes = 0;
    const edgetl_preprocess_options options = options_of(env, handle, &ok);
    edgetl_frame frame = {0};
    void* out = NULL;
    jlong row;
    (void)self;
    if (!ok || failed(env, edgetl_preprocess_bytes(&options, &bytes))) return;
    row = (format == EDGETL_RGB || format == EDGETL_BGR     ? 3
           : format == EDGETL_RGBA || format == EDGETL_BGRA ? 4
                                                            : 1) *
          (jlong)width;
    if (width < 1 || height < 1 || first_stride < row || second_stride < 0) {
        raise(env, "width, height or a stride is out of range");
        return;
    }
    frame.struct_size = sizeof frame;
    frame.format = format;
    frame.width = width;
    frame.height = height;
    frame.rotation = rotation;
    frame.strides[0] = first_stride;
    frame.strides[1] = second_stride;
    /* The last row need not have the gap that follows the others. */
    frame.planes[0] = memory(env, first, first_stride * (height - 1) + row);
    if (frame.planes[0] == NULL) return;
    if (second != NULL) {
        const jlong rows = ((jlong)height + 1) / 2, pairs = ((jlong)width + 1) / 2;
        /* 0 would mean rows without gaps, and more memory than is looked for below. */
        if (second_stride < 2 * pairs) {
            raise(env, "the stride of the second plane is shorter than its rows");
            return;
        }
        frame.planes[1] = memory(env, second, second_stride * (rows - 1) + 2 * pairs);
        if (frame.planes[1] == NULL) return;
    }
    out = memory(env, input, (jlong)bytes);
    if (out != NULL) failed(env, edgetl_preprocess(&frame, &options, out, bytes));
}

JNIEXPORT jdoubleArray JNICALL Java_edgetl_Native_score(JNIEnv* env, jobject self, jlong handle,
                                                        jfloatArray features) {
    const edgetl_head* head = head_of(handle);
    const size_t classes = edgetl_head_classes(head);
    const size_t dim = (size_t)(*env)->GetArrayLength(env, features);
    jfloat* values = (*env)->GetFloatArrayElements(env, features, NULL);
    double* shares = malloc(classes * sizeof *shares);
    jdoubleArray result = NULL;
    (void)self;
    if (values != NULL && shares != NULL &&
        !failed(env, edgetl_head_probabilities(head, values, 1, dim, shares, classes)))
        result = (*env)->NewDoubleArray(env, (jsize)classes);
    if (result != NULL) (*env)->SetDoubleArrayRegion(env, result, 0, (jsize)classes, shares);
    if (values != NULL) (*env)->ReleaseFloatArrayElements(env, features, values, JNI_ABORT);
    free(shares);
    return result;
}
