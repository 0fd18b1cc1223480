/* Both ends of a classifier without Python; the network between them is an engine's of yours.
 *
 *   classify frame FRAME.nv12 WIDTH HEIGHT > input.f32       a camera frame to the network's input
 *   classify score head.safetensors < features.f32           its features to probabilities
 *
 * The numbers of the preprocessing stand in a bundle's manifest; here they are edgetl's defaults.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgetl.h"

static int failed(const char* what) {
    fprintf(stderr, "classify: %s: %s\n", what, edgetl_last_error());
    return 1;
}

static int give_up(const char* text) {
    fprintf(stderr, "classify: %s\n", text);
    return 1;
}

static int frame_to_input(const uint8_t* pixels, int32_t width, int32_t height) {
    edgetl_frame frame = {0};
    edgetl_preprocess_options options = {0};
    size_t bytes = 0;
    void* input = NULL;
    int result = 0;

    frame.struct_size = sizeof frame;
    frame.format = EDGETL_NV12;
    frame.range = EDGETL_LIMITED;
    frame.width = width;
    frame.height = height;
    frame.planes[0] = pixels;
    frame.planes[1] = pixels + (size_t)width * (size_t)height;

    options.struct_size = sizeof options;
    options.size = 224;
    options.resize = 256;
    options.mean[0] = 0.485f, options.mean[1] = 0.456f, options.mean[2] = 0.406f;
    options.std[0] = 0.229f, options.std[1] = 0.224f, options.std[2] = 0.225f;

    if (edgetl_preprocess_bytes(&options, &bytes) != EDGETL_OK) return failed("options");
    input = malloc(bytes);
    if (input == NULL) return give_up("out of memory");
    if (edgetl_preprocess(&frame, &options, input, bytes) != EDGETL_OK)
        result = failed("frame");
    else if (fwrite(input, 1, bytes, stdout) != bytes)
        result = give_up("can't write");
    free(input);
    return result;
}

static int read_frame(const char* path, int32_t width, int32_t height) {
    size_t bytes = 0;
    uint8_t* pixels = NULL;
    FILE* file = NULL;
    int result = 0;

    if (width < 1 || height < 1 || width > 16384 || height > 16384)
        return give_up("WIDTH and HEIGHT must be 1 to 16384");
    bytes = (size_t)width * (size_t)height;
    bytes += (size_t)((width + 1) / 2) * 2 * (size_t)((height + 1) / 2);
    file = fopen(path, "rb");
    if (file == NULL) return give_up("can't open the frame");
    pixels = malloc(bytes);
    if (pixels == NULL || fread(pixels, 1, bytes, file) != bytes)
        result = give_up("the frame is shorter than WIDTH x HEIGHT pixels of NV12");
    else
        result = frame_to_input(pixels, width, height);
    free(pixels);
    fclose(file);
    return result;
}

static int score(const char* path) {
    edgetl_head* head = NULL;
    float* features = NULL;
    double* shares = NULL;
    size_t classes, dim, i;
    int result = 0;

    if (edgetl_head_load_file(path, &head) != EDGETL_OK) return failed("head");
    classes = edgetl_head_classes(head);
    dim = edgetl_head_features(head);
    features = malloc(dim * sizeof *features);
    shares = malloc(classes * sizeof *shares);
    if (features == NULL || shares == NULL)
        result = give_up("out of memory");
    else
        while (result == 0 && fread(features, sizeof *features, dim, stdin) == dim) {
            if (edgetl_head_probabilities(head, features, 1, dim, shares, classes) != EDGETL_OK)
                result = failed("features");
            else
                for (i = 0; i < classes; ++i)
                    printf("%.17g%c", shares[i], i + 1 < classes ? ' ' : '\n');
        }
    free(features);
    free(shares);
    edgetl_head_free(head);
    return result;
}

int main(int count, char** words) {
    if (edgetl_abi_version() != EDGETL_ABI_VERSION)
        return give_up("the library is not the one this program was compiled for");
    if (count == 5 && strcmp(words[1], "frame") == 0)
        return read_frame(words[2], atoi(words[3]), atoi(words[4]));
    if (count == 3 && strcmp(words[1], "score") == 0) return score(words[2]);
    fprintf(stderr, "usage: classify frame FRAME.nv12 WIDTH HEIGHT | classify score HEAD\n");
    return 2;
}
