/* Reads handwritten digits with a model that a krtd has loaded: libkaena in one file.
 *
 *     classify MODEL images.npy labels.npy
 *
 * Shows some of the images with the answers, then how many of all were read rightly and how long it
 * took. Fails when fewer than 97 of 100 are right. */
#include <kaena/client.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIDE 8
#define PIXELS (SIDE * SIDE)
#define DIGITS 10
#define COLUMNS 5 /* images beside each other */
#define SHOWN 10
#define SHOWN_WRONG 5

/* What a .npy file holds behind its header, which begins with 8 bytes of magic and version and 2
 * bytes of its own length. NULL: cannot be read. */
static void *read_npy(const char *path, size_t *out_bytes)
{
    FILE *file = fopen(path, "rb");
    unsigned char head[10];
    unsigned char *data = NULL;
    if (file && fread(head, 1, sizeof head, file) == sizeof head &&
        memcmp(head, "\x93NUMPY\x01", 7) == 0 && fseek(file, 0, SEEK_END) == 0) {
        long begin = 10 + head[8] + 256 * head[9];
        long size = ftell(file) - begin;
        if (size > 0 && fseek(file, begin, SEEK_SET) == 0)
            data = malloc((size_t)size);
        if (data && fread(data, 1, (size_t)size, file) != (size_t)size) {
            free(data);
            data = NULL;
        }
        *out_bytes = (size_t)size;
    }
    if (file)
        fclose(file);
    if (!data)
        fprintf(stderr, "classify: cannot read '%s'\n", path);
    return data;
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct answer {
    int digit;
    float probability;
    double us;
} answer;

/* One image, one inference. */
static kaena_status read_digit(kaena_client *client, const kaena_model_info *model, float *pixels,
                               answer *out, kaena_err *err)
{
    float probabilities[DIGITS];
    kaena_tensor input = {.name = model->inputs[0].name,
                          .dtype = KAENA_F32,
                          .rank = 4,
                          .shape = {1, 1, SIDE, SIDE},
                          .data = pixels,
                          .bytes = PIXELS * sizeof *pixels};
    kaena_tensor output = {.data = probabilities, .bytes = sizeof probabilities};
    kaena_infer_call call = {.size = sizeof call,
                             .model = model->name,
                             .inputs = &input,
                             .input_count = 1,
                             .outputs = &output,
                             .output_count = 1};
    double begin = now_us();
    kaena_status status = kaena_infer(client, &call, err);
    if (status != KAENA_OK)
        return status;
    *out = (answer){.us = now_us() - begin};
    for (int d = 1; d < DIGITS; d++)
        if (probabilities[d] > probabilities[out->digit])
            out->digit = d;
    out->probability = probabilities[out->digit];
    return KAENA_OK;
}

/* Draws the images |chosen| beside each other, the answers below. */
static void draw(const float *images, const answer *answers, const uint8_t *labels,
                 const size_t *chosen, size_t count)
{
    static const char shades[] = " .:-=+*%#@";
    for (size_t first = 0; first < count; first += COLUMNS) {
        size_t here = count - first < COLUMNS ? count - first : COLUMNS;
        printf("\n");
        for (int row = 0; row < SIDE; row++) {
            for (size_t i = 0; i < here; i++) {
                printf("  ");
                for (int column = 0; column < SIDE; column++) {
                    float v = images[chosen[first + i] * PIXELS + (size_t)(row * SIDE + column)];
                    char shade = shades[(int)(v * 9 + 0.5f)];
                    printf("%c%c", shade, shade);
                }
            }
            printf("\n");
        }
        for (size_t i = 0; i < here; i++) {
            const answer *a = &answers[chosen[first + i]];
            char text[32];
            int n = snprintf(text, sizeof text, "read %d (%.1f %%)", a->digit,
                             (double)a->probability * 100);
            if (a->digit != labels[chosen[first + i]])
                n = snprintf(text, sizeof text, "read %d, it is %d", a->digit,
                             labels[chosen[first + i]]);
            printf("  %-*s", 2 * SIDE, n > 0 ? text : "");
        }
        printf("\n");
    }
}

static int report(const kaena_model_info *model, const float *images, const uint8_t *labels,
                  const answer *answers, size_t count)
{
    size_t right = 0, some[SHOWN], wrong[SHOWN_WRONG], some_count = 0, wrong_count = 0;
    double *us = malloc(count * sizeof *us);
    if (!us)
        return 1;
    for (size_t i = 0; i < count; i++) {
        us[i] = answers[i].us;
        if (some_count < SHOWN)
            some[some_count++] = i;
        if (answers[i].digit == labels[i])
            right++;
        else if (wrong_count < SHOWN_WRONG)
            wrong[wrong_count++] = i;
    }
    draw(images, answers, labels, some, some_count);
    if (wrong_count > 0) {
        printf("\nRead wrongly:\n");
        draw(images, answers, labels, wrong, wrong_count);
    }
    qsort(us, count, sizeof *us, compare_doubles);
    printf("\n%zu of %zu images that the network has never seen are read rightly: %.1f %%\n", right,
           count, 100.0 * (double)right / (double)count);
    printf("latency of a request: p50 %.0f us, p99 %.0f us (kcc's estimate for the emulated "
           "hardware: %.0f us)\n",
           us[count / 2], us[count * 99 / 100], model->estimated_latency_us);
    free(us);
    return right * 100 >= count * 97 ? 0 : 1;
}

static int failed(const kaena_err *err)
{
    fprintf(stderr, "classify: %s\n", err->what);
    if (err->hint[0])
        fprintf(stderr, "  %s\n", err->hint);
    return 1;
}

/* All images through the model. */
static int classify(kaena_client *client, const char *name, float *images, const uint8_t *labels,
                    size_t count)
{
    kaena_err err;
    kaena_model_info *model;
    if (kaena_model_info_get(client, name, &model, &err) != KAENA_OK)
        return failed(&err);
    answer *answers = calloc(count, sizeof *answers);
    int result = answers ? 0 : 1;
    for (size_t i = 0; i < count && result == 0; i++)
        if (read_digit(client, model, images + i * PIXELS, &answers[i], &err) != KAENA_OK)
            result = failed(&err);
    if (result == 0)
        result = report(model, images, labels, answers, count);
    free(answers);
    kaena_model_info_free(model);
    return result;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: classify MODEL images.npy labels.npy\n"
                        "The daemon's address is in KAENA_KRTD_ADDRESS, or the default.\n");
        return 2;
    }
    size_t image_bytes = 0, label_bytes = 0;
    float *images = read_npy(argv[2], &image_bytes);
    uint8_t *labels = read_npy(argv[3], &label_bytes);
    int result = 1;
    kaena_client *client = NULL;
    kaena_err err;
    if (images && labels && image_bytes != label_bytes * PIXELS * sizeof *images)
        fprintf(stderr, "classify: '%s' and '%s' do not belong together\n", argv[2], argv[3]);
    else if (images && labels && kaena_client_open(NULL, &client, &err) != KAENA_OK)
        result = failed(&err);
    else if (images && labels)
        result = classify(client, argv[1], images, labels, label_bytes);
    kaena_client_close(client);
    free(images);
    free(labels);
    return result;
}
