// A client in C++, made from our .proto files alone: loads the digits network, reads digits in every way there is, unloads it.
//
//     client TARGET FILE.neff DIGITS_DIRECTORY
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <string>

#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "kaena/v1/runtime.grpc.pb.h"

using namespace kaena::v1;

namespace {

constexpr size_t kChunk = 64 * 1024, kImages = 100, kImageBytes = 64 * sizeof(float);
const char kName[] = "cpp";

[[noreturn]] void die(const std::string &what)
{
    std::cerr << "client.cc: " << what << std::endl;
    std::exit(1);
}

void check(bool good, const std::string &what)
{
    if (!good)
        die(what);
}

void check(const grpc::Status &status, const std::string &what)
{
    if (!status.ok())
        die(what + ": " + std::to_string(status.error_code()) + " " + status.error_message());
}

std::string read_file(const std::string &path)
{
    std::ifstream in(path, std::ios::binary);
    check(in.good(), "cannot read " + path);
    return {std::istreambuf_iterator<char>(in), {}};
}

// The data of a .npy file of version 1.
std::string npy(const std::string &path)
{
    std::string all = read_file(path);
    check(all.size() > 10, path + " is too short");
    return all.substr(10 + (static_cast<uint8_t>(all[8]) | static_cast<uint8_t>(all[9]) << 8));
}

// What every call gets: a deadline.
struct Context : grpc::ClientContext {
    Context() { set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60)); }
};

InferRequest question(const std::string &image)
{
    InferRequest request;
    request.set_model(kName);
    Tensor *x = request.add_inputs();
    x->set_name("image");
    x->set_dtype(FLOAT32);
    for (int64_t dim : {1, 1, 8, 8})
        x->add_shape(dim);
    x->set_data(image);
    return request;
}

int digit(const InferResponse &answer)
{
    check(answer.outputs_size() == 1 && answer.outputs(0).name() == "probabilities", "another output");
    const std::string &data = answer.outputs(0).data();
    check(data.size() == 10 * sizeof(float), "not ten probabilities");
    float p[10];
    std::copy(data.begin(), data.end(), reinterpret_cast<char *>(p));
    return static_cast<int>(std::max_element(p, p + 10) - p);
}

// |status| is of that code and carries a kaena.v1.ErrorDetail.
void check_error(const grpc::Status &status, grpc::StatusCode code, ErrorDetail::Reason reason,
                 const std::string &word)
{
    check(status.error_code() == code, "another error: " + status.error_message());
    google::rpc::Status whole;
    check(whole.ParseFromString(status.error_details()), "no google.rpc.Status");
    ErrorDetail detail;
    check(whole.details_size() == 1 &&
              whole.details(0).type_url() == "type.googleapis.com/kaena.v1.ErrorDetail" &&
              detail.ParseFromString(whole.details(0).value()),
          "no ErrorDetail");
    check(detail.reason() == reason, "another reason: " + detail.ShortDebugString());
    check(detail.what().find(word) != std::string::npos, "what lacks " + word + ": " + detail.what());
}

void load(Runtime::Stub &runtime, const std::string &neff)
{
    Context context;
    LoadResponse answer;
    auto writer = runtime.Load(&context, &answer);
    LoadRequest first;
    first.mutable_options()->set_name(kName);
    first.mutable_options()->set_size(neff.size());
    writer->Write(first);
    for (size_t at = 0; at < neff.size(); at += kChunk) {
        LoadRequest part;
        part.set_chunk(neff.substr(at, kChunk));
        writer->Write(part);
    }
    writer->WritesDone();
    check(writer->Finish(), "Load");
    check(answer.model().name() == kName && answer.model().state() == READY, "another model");
    check(answer.model().inputs(0).shape_size() == 4, "another shape");
}

void list(Runtime::Stub &runtime)
{
    Context context;
    ListModelsResponse models;
    check(runtime.ListModels(&context, {}, &models), "ListModels");
    check(models.models_size() == 1 && models.models(0).name() == kName, "other models");
}

void health(const std::shared_ptr<grpc::Channel> &channel)
{
    Context context;
    grpc::health::v1::HealthCheckRequest request;
    grpc::health::v1::HealthCheckResponse answer;
    request.set_service(std::string("model/") + kName);
    check(grpc::health::v1::Health::NewStub(channel)->Check(&context, request, &answer), "Check");
    check(answer.status() == grpc::health::v1::HealthCheckResponse::SERVING, "not serving");
}

// Each answer's digit by the number of its image.
using Digits = std::map<size_t, int>;

Digits by_infer(Runtime::Stub &runtime, const std::string &images)
{
    Digits out;
    for (size_t i = 0; i < kImages; i++) {
        Context context;
        InferResponse answer;
        check(runtime.Infer(&context, question(images.substr(i * kImageBytes, kImageBytes)), &answer), "Infer");
        out[i] = digit(answer);
    }
    return out;
}

Digits by_stream(Runtime::Stub &runtime, const std::string &images)
{
    Digits out;
    Context context;
    auto stream = runtime.InferStream(&context);
    for (size_t i = 0; i < kImages; i++) {
        InferStreamRequest request;
        request.set_id(i + 1);
        *request.mutable_request() = question(images.substr(i * kImageBytes, kImageBytes));
        check(stream->Write(request), "InferStream: write");
    }
    stream->WritesDone();
    InferStreamResponse response;
    while (stream->Read(&response)) {
        check(response.has_response(), "InferStream: " + response.ShortDebugString());
        check(out.emplace(response.id() - 1, digit(response.response())).second, "answered twice");
    }
    check(stream->Finish(), "InferStream");
    return out;
}

Digits by_post(Runtime::Stub &runtime, const std::string &images)
{
    Digits out;
    std::map<size_t, uint64_t> cookies;
    for (size_t i = 0; i < kImages; i++) {
        Context context;
        InferPostResponse posted;
        check(runtime.InferPost(&context, question(images.substr(i * kImageBytes, kImageBytes)), &posted), "InferPost");
        check(posted.cookie() != 0, "no cookie");
        cookies[i] = posted.cookie();
    }
    for (const auto &[i, cookie] : cookies) {
        Context context;
        InferWaitRequest wait;
        InferResponse answer;
        wait.set_cookie(cookie);
        check(runtime.InferWait(&context, wait, &answer), "InferWait");
        out[i] = digit(answer);
    }
    Context context;
    InferWaitRequest again;
    InferResponse answer;
    again.set_cookie(cookies[0]);
    check(runtime.InferWait(&context, again, &answer).error_code() == grpc::StatusCode::NOT_FOUND,
          "an answer was given twice");
    return out;
}

} // namespace

int main(int argc, char **argv)
{
    check(argc == 4, "usage: client TARGET FILE.neff DIGITS_DIRECTORY");
    auto channel = grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials());
    auto runtime = Runtime::NewStub(channel);
    const std::string images = npy(std::string(argv[3]) + "/images.npy");
    const std::string labels = npy(std::string(argv[3]) + "/labels.npy");
    load(*runtime, read_file(argv[2]));
    list(*runtime);
    health(channel);
    const Digits once = by_infer(*runtime, images);
    size_t right = 0;
    for (const auto &[i, d] : once)
        right += d == labels[i];
    check(once.size() == kImages && right >= kImages * 97 / 100, std::to_string(right) + " are right");
    check(by_stream(*runtime, images) == once, "a stream answers otherwise");
    check(by_post(*runtime, images) == once, "posted requests are answered otherwise");
    {
        Context context;
        InferResponse answer;
        check_error(runtime->Infer(&context, question("short"), &answer), grpc::StatusCode::INVALID_ARGUMENT,
                    ErrorDetail::BAD_TENSOR, "image");
    }
    Context context, after;
    UnloadRequest unload;
    UnloadResponse unloaded;
    unload.set_name(kName);
    check(runtime->Unload(&context, unload, &unloaded), "Unload");
    InferResponse answer;
    check_error(runtime->Infer(&after, question(images.substr(0, kImageBytes)), &answer),
                grpc::StatusCode::NOT_FOUND, ErrorDetail::REASON_UNSPECIFIED, kName);
    std::cout << argv[1] << ": " << right << " of " << kImages << " digits are right" << std::endl;
}
