/* A bundle on a device without Python: it answers, learns, and takes signed updates. The network
 * between a frame and its features is an engine's of yours; features come here as float32.
 *
 *   device show BUNDLE                                 what the bundle is
 *   device score BUNDLE < features.f32                 probabilities of each sample
 *   device learn BUNDLE LABEL < features.f32           learns them, and keeps what was learned
 *   device rehearse BUNDLE STEPS                       for softmax: shows it what is kept again
 *   device forget BUNDLE LABEL
 *   device save BUNDLE head.safetensors                the head alone
 *   device apply BUNDLE update.etlh key.raw            a signed update; the key has 32 bytes
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgetl.h"

static int failed(const char* what) {
    fprintf(stderr, "device: %s: %s\n", what, edgetl_last_error());
    return 1;
}

static int give_up(const char* text) {
    fprintf(stderr, "device: %s\n", text);
    return 1;
}

static int usage(void) {
    fprintf(stderr, "usage: device show|score|learn|rehearse|forget|save|apply BUNDLE ...\n");
    return 2;
}

/* The whole of a file, to be freed; NULL if it can't be read. */
static unsigned char* read_all(FILE* file, size_t* bytes) {
    unsigned char* data = NULL;
    size_t room = 0, count = 0;
    *bytes = 0;
    do {
        if (*bytes == room) {
            unsigned char* more = realloc(data, room = room > 0 ? 2 * room : 65536);
            if (more == NULL) break;
            data = more;
        }
        count = fread(data + *bytes, 1, room - *bytes, file);
        *bytes += count;
    } while (count > 0);
    if (!ferror(file) && feof(file)) return data;
    free(data);
    return NULL;
}

static unsigned char* read_path(const char* path, size_t* bytes) {
    FILE* file = fopen(path, "rb");
    unsigned char* data = NULL;
    if (file == NULL) return NULL;
    data = read_all(file, bytes);
    fclose(file);
    return data;
}

static int show(const edgetl_bundle* bundle) {
    const edgetl_head* head = edgetl_bundle_head(bundle);
    edgetl_preprocess_options options = {0};
    size_t i;

    options.struct_size = sizeof options;
    if (edgetl_bundle_preprocess(bundle, &options) != EDGETL_OK) return failed("options");
    if (edgetl_bundle_check_graph(bundle) != EDGETL_OK) return failed("network");
    printf("network %s\n", edgetl_bundle_graph(bundle));
    printf("input %d x %d of %s in %s\n", (int)options.size, (int)options.size,
           options.dtype == EDGETL_UINT8 ? "uint8" : "float32",
           options.layout == EDGETL_NHWC ? "nhwc" : "nchw");
    printf("generation %ld\n", (long)edgetl_bundle_generation(bundle));
    for (i = 0; i < edgetl_head_classes(head); ++i) printf("class %s\n", edgetl_head_name(head, i));
    return 0;
}

static int score(const edgetl_head* head, const float* features, size_t n) {
    const size_t classes = edgetl_head_classes(head);
    double* shares = malloc((n > 0 ? n : 1) * classes * sizeof *shares);
    size_t i;
    int result = 0;

    if (shares == NULL) return give_up("out of memory");
    if (edgetl_head_probabilities(head, features, n, edgetl_head_features(head), shares,
                                  n * classes) != EDGETL_OK)
        result = failed("features");
    else
        for (i = 0; i < n * classes; ++i)
            printf("%.17g%c", shares[i], (i + 1) % classes > 0 ? ' ' : '\n');
    free(shares);
    return result;
}

/* Learns in one lesson and makes the result the bundle's. */
static int learn(const edgetl_bundle* bundle, const char* label, const float* features, size_t n) {
    const size_t dim = edgetl_head_features(edgetl_bundle_head(bundle));
    const char** names = malloc((n > 0 ? n : 1) * sizeof *names);
    edgetl_learner* learner = NULL;
    size_t i;
    int result = 0;

    if (names == NULL) return give_up("out of memory");
    for (i = 0; i < n; ++i) names[i] = label;
    if (edgetl_learner_open(bundle, &learner) != EDGETL_OK ||
        edgetl_learner_learn(learner, features, n, dim, names, NULL) != EDGETL_OK ||
        edgetl_bundle_commit(bundle, learner, NULL) != EDGETL_OK)
        result = failed("learn");
    edgetl_learner_free(learner);
    free(names);
    return result;
}

static int rehearse(const edgetl_bundle* bundle, size_t steps) {
    edgetl_learner* learner = NULL;
    int result = 0;

    if (edgetl_learner_open(bundle, &learner) != EDGETL_OK ||
        edgetl_learner_rehearse(learner, steps) != EDGETL_OK ||
        edgetl_bundle_commit(bundle, learner, NULL) != EDGETL_OK)
        result = failed("rehearse");
    edgetl_learner_free(learner);
    return result;
}

static int forget(const edgetl_bundle* bundle, const char* label) {
    edgetl_learner* learner = NULL;
    int result = 0;

    if (edgetl_learner_open(bundle, &learner) != EDGETL_OK ||
        edgetl_learner_forget(learner, label) != EDGETL_OK ||
        edgetl_bundle_commit(bundle, learner, NULL) != EDGETL_OK)
        result = failed("forget");
    edgetl_learner_free(learner);
    return result;
}

static int apply(const edgetl_bundle* bundle, const char* update, const char* key) {
    size_t bytes = 0, key_bytes = 0;
    unsigned char* data = read_path(update, &bytes);
    unsigned char* trusted = read_path(key, &key_bytes);
    int result = 0;

    if (data == NULL || trusted == NULL)
        result = give_up("can't read the update or the key");
    else if (key_bytes != 32)
        result = give_up("the key must be the 32 bytes of an ed25519 public key");
    else if (edgetl_delta_apply(bundle, data, bytes, trusted, NULL) != EDGETL_OK)
        result = failed("apply");
    free(data);
    free(trusted);
    return result;
}

static int with_features(const edgetl_bundle* bundle, const char* label) {
    const edgetl_head* head = edgetl_bundle_head(bundle);
    const size_t row = edgetl_head_features(head) * sizeof(float);
    size_t bytes = 0;
    unsigned char* data = read_all(stdin, &bytes);
    int result = 0;

    if (data == NULL || bytes % row != 0)
        result = give_up("the features are not whole rows of float32");
    else if (label == NULL)
        result = score(head, (const float*)data, bytes / row);
    else
        result = learn(bundle, label, (const float*)data, bytes / row);
    free(data);
    return result;
}

static int run(const edgetl_bundle* bundle, int count, char** words) {
    const char* verb = words[1];
    if (count == 3 && strcmp(verb, "show") == 0) return show(bundle);
    if (count == 3 && strcmp(verb, "score") == 0) return with_features(bundle, NULL);
    if (count == 4 && strcmp(verb, "learn") == 0) return with_features(bundle, words[3]);
    if (count == 4 && strcmp(verb, "rehearse") == 0)
        return rehearse(bundle, strtoul(words[3], NULL, 10));
    if (count == 4 && strcmp(verb, "forget") == 0) return forget(bundle, words[3]);
    if (count == 4 && strcmp(verb, "save") == 0)
        return edgetl_head_save(edgetl_bundle_head(bundle), words[3]) == EDGETL_OK ? 0
                                                                                   : failed("save");
    if (count == 5 && strcmp(verb, "apply") == 0) return apply(bundle, words[3], words[4]);
    return usage();
}

int main(int count, char** words) {
    edgetl_bundle* bundle = NULL;
    int result = 0;

    if (edgetl_abi_version() != EDGETL_ABI_VERSION)
        return give_up("the library is not the one this program was compiled for");
    if (count < 3) return usage();
    if (edgetl_bundle_open(words[2], NULL, &bundle) != EDGETL_OK) return failed(words[2]);
    result = run(bundle, count, words);
    edgetl_bundle_free(bundle);
    return result;
}
