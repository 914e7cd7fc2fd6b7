// A client in Go, made from our .proto files alone: loads the digits network, reads digits in every way there is, unloads it.
//
//	client TARGET FILE.neff DIGITS_DIRECTORY
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/golang/protobuf/ptypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	kaena "kaena/v1"
)

const (
	chunk      = 64 * 1024
	images     = 100
	imageBytes = 64 * 4
	name       = "go"
)

func must(err error, what string) {
	if err != nil {
		log.Fatalf("client.go: %s: %v", what, err)
	}
}

func check(good bool, what string, more ...interface{}) {
	if !good {
		log.Fatalf("client.go: %s %v", what, more)
	}
}

// The data of a .npy file of version 1.
func npy(path string) []byte {
	all, err := os.ReadFile(path)
	must(err, path)
	return all[10+int(binary.LittleEndian.Uint16(all[8:])):]
}

func question(image []byte) *kaena.InferRequest {
	return &kaena.InferRequest{Model: name, Inputs: []*kaena.Tensor{{
		Name: "image", Dtype: kaena.DataType_FLOAT32, Shape: []int64{1, 1, 8, 8},
		Payload: &kaena.Tensor_Data{Data: image}}}}
}

func digit(answer *kaena.InferResponse) int {
	check(len(answer.Outputs) == 1 && answer.Outputs[0].Name == "probabilities", "another output")
	var p [10]float32
	must(binary.Read(bytes.NewReader(answer.Outputs[0].GetData()), binary.LittleEndian, &p), "probabilities")
	best, most := -1, float32(math.Inf(-1))
	for i, v := range p {
		if v > most {
			best, most = i, v
		}
	}
	return best
}

// err is of that code and carries a kaena.v1.ErrorDetail.
func checkError(err error, code codes.Code, reason kaena.ErrorDetail_Reason, word string) {
	s, ok := status.FromError(err)
	check(ok && s.Code() == code, "another error:", err)
	check(len(s.Proto().Details) == 1, "no details:", err)
	var detail kaena.ErrorDetail
	must(ptypes.UnmarshalAny(s.Proto().Details[0], &detail), "ErrorDetail")
	check(detail.Reason == reason, "another reason:", detail.Reason)
	check(strings.Contains(detail.What, word), "what lacks "+word, detail.What)
}

func load(ctx context.Context, runtime kaena.RuntimeClient, neff []byte) {
	stream, err := runtime.Load(ctx)
	must(err, "Load")
	options := &kaena.LoadOptions{Name: name, Size: uint64(len(neff))}
	must(stream.Send(&kaena.LoadRequest{Part: &kaena.LoadRequest_Options{Options: options}}), "Load: options")
	for len(neff) > 0 {
		n := chunk
		if n > len(neff) {
			n = len(neff)
		}
		must(stream.Send(&kaena.LoadRequest{Part: &kaena.LoadRequest_Chunk{Chunk: neff[:n]}}), "Load: chunk")
		neff = neff[n:]
	}
	answer, err := stream.CloseAndRecv()
	must(err, "Load")
	check(answer.Model.Name == name && answer.Model.State == kaena.ModelState_READY, "another model:", answer.Model)
}

func byInfer(ctx context.Context, runtime kaena.RuntimeClient, data []byte) map[int]int {
	out := map[int]int{}
	for i := 0; i < images; i++ {
		answer, err := runtime.Infer(ctx, question(data[i*imageBytes:(i+1)*imageBytes]))
		must(err, "Infer")
		out[i] = digit(answer)
	}
	return out
}

func byStream(ctx context.Context, runtime kaena.RuntimeClient, data []byte) map[int]int {
	out := map[int]int{}
	stream, err := runtime.InferStream(ctx)
	must(err, "InferStream")
	go func() {
		for i := 0; i < images; i++ {
			what := &kaena.InferStreamRequest_Request{Request: question(data[i*imageBytes : (i+1)*imageBytes])}
			must(stream.Send(&kaena.InferStreamRequest{Id: uint64(i + 1), What: what}), "InferStream: send")
		}
		must(stream.CloseSend(), "InferStream: close")
	}()
	for {
		response, err := stream.Recv()
		if err == io.EOF {
			return out
		}
		must(err, "InferStream: receive")
		check(response.GetResponse() != nil, "InferStream:", response)
		_, twice := out[int(response.Id)-1]
		check(!twice, "answered twice:", response.Id)
		out[int(response.Id)-1] = digit(response.GetResponse())
	}
}

func byPost(ctx context.Context, runtime kaena.RuntimeClient, data []byte) map[int]int {
	out, cookies := map[int]int{}, map[int]uint64{}
	for i := 0; i < images; i++ {
		posted, err := runtime.InferPost(ctx, question(data[i*imageBytes:(i+1)*imageBytes]))
		must(err, "InferPost")
		check(posted.Cookie != 0, "no cookie")
		cookies[i] = posted.Cookie
	}
	for i, cookie := range cookies {
		answer, err := runtime.InferWait(ctx, &kaena.InferWaitRequest{Cookie: cookie})
		must(err, "InferWait")
		out[i] = digit(answer)
	}
	_, err := runtime.InferWait(ctx, &kaena.InferWaitRequest{Cookie: cookies[0]})
	check(status.Code(err) == codes.NotFound, "an answer was given twice:", err)
	return out
}

func main() {
	check(len(os.Args) == 4, "usage: client TARGET FILE.neff DIGITS_DIRECTORY")
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure())
	must(err, "Dial")
	defer connection.Close()
	runtime := kaena.NewRuntimeClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	neff, err := os.ReadFile(os.Args[2])
	must(err, "artifact")
	data, labels := npy(filepath.Join(os.Args[3], "images.npy")), npy(filepath.Join(os.Args[3], "labels.npy"))

	load(ctx, runtime, neff)
	list, err := runtime.ListModels(ctx, &kaena.ListModelsRequest{})
	must(err, "ListModels")
	check(len(list.Models) == 1 && list.Models[0].Name == name, "other models:", list)
	health, err := healthpb.NewHealthClient(connection).Check(ctx, &healthpb.HealthCheckRequest{Service: "model/" + name})
	must(err, "Check")
	check(health.Status == healthpb.HealthCheckResponse_SERVING, "not serving:", health)

	once := byInfer(ctx, runtime, data)
	right := 0
	for i, d := range once {
		if d == int(labels[i]) {
			right++
		}
	}
	check(right >= images*97/100, "too few are right:", right)
	check(reflect.DeepEqual(byStream(ctx, runtime, data), once), "a stream answers otherwise")
	check(reflect.DeepEqual(byPost(ctx, runtime, data), once), "posted requests are answered otherwise")

	_, err = runtime.Infer(ctx, question([]byte("short")))
	checkError(err, codes.InvalidArgument, kaena.ErrorDetail_BAD_TENSOR, "image")
	_, err = runtime.Unload(ctx, &kaena.UnloadRequest{Name: name})
	must(err, "Unload")
	_, err = runtime.Infer(ctx, question(data[:imageBytes]))
	checkError(err, codes.NotFound, kaena.ErrorDetail_REASON_UNSPECIFIED, name)
	fmt.Printf("%s: %d of %d digits are right\n", os.Args[1], right, images)
}
