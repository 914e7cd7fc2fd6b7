#!/usr/bin/python3
"""A client in Python, made from our .proto files alone: loads the digits network, reads digits, unloads it."""

import tempfile

import daemon

try:
    import grpc
    import numpy as np
except ImportError as missing:
    daemon.skip(f"{missing.name} is not installed (scripts/setup)")

CHUNK = 64 * 1024
IMAGES = 100


def load_requests(messages, neff, name):
    data = neff.read_bytes()
    yield messages.LoadRequest(options=messages.LoadOptions(name=name, size=len(data)))
    for at in range(0, len(data), CHUNK):
        yield messages.LoadRequest(chunk=data[at:at + CHUNK])


def question(messages, tensors, name, image):
    tensor = tensors.Tensor(name="image", dtype=tensors.FLOAT32, shape=image.shape, data=image.tobytes())
    return messages.InferRequest(model=name, inputs=[tensor])


def infer(messages, tensors, runtime, name, image):
    return probabilities_of(tensors, runtime.Infer(question(messages, tensors, name, image), timeout=30))


def probabilities_of(tensors, answer):
    output = answer.outputs[0]
    assert output.name == "probabilities" and output.dtype == tensors.FLOAT32, output
    return np.frombuffer(output.data, np.float32).reshape(output.shape)


def stream(messages, tensors, runtime, name, images):
    """All at once on one stream; answers come in any order."""
    requests = [messages.InferStreamRequest(id=i + 1, request=question(messages, tensors, name, image[None]))
                for i, image in enumerate(images)]
    answers = {a.id - 1: probabilities_of(tensors, a.response) for a in runtime.InferStream(iter(requests), timeout=60)}
    assert len(answers) == len(images), answers.keys()
    return answers


def post(messages, tensors, runtime, name, images):
    cookies = [runtime.InferPost(question(messages, tensors, name, image[None]), timeout=30).cookie for image in images]
    wait = messages.InferWaitRequest
    answers = {i: probabilities_of(tensors, runtime.InferWait(wait(cookie=c), timeout=30)) for i, c in enumerate(cookies)}
    try:
        runtime.InferWait(wait(cookie=cookies[0]), timeout=30)
        raise AssertionError("an answer was given twice")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
    return answers


def check_details(error, reason_text):
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin")
    assert details and b"kaena.v1.ErrorDetail" in details, f"no details in {error}"
    assert reason_text in error.details(), error.details()


def use(target, messages, tensors, stubs, neff):
    images = np.load(daemon.DIGITS / "images.npy")[:IMAGES]
    labels = np.load(daemon.DIGITS / "labels.npy")[:IMAGES]
    with grpc.insecure_channel(target) as channel:
        runtime = stubs.RuntimeStub(channel)
        model = runtime.Load(load_requests(messages, neff, "py"), timeout=60).model
        assert model.name == "py" and model.state == messages.READY, model
        assert list(model.inputs[0].shape) == [1, 1, 8, 8], model
        right, once = 0, {}
        for i, (image, label) in enumerate(zip(images, labels)):
            probabilities = once[i] = infer(messages, tensors, runtime, "py", image[None])
            assert abs(probabilities.sum() - 1) < 1e-2, probabilities
            right += int(probabilities.argmax() == label)
        for how in (stream, post):
            answers = how(messages, tensors, runtime, "py", images)
            assert all((answers[i] == once[i]).all() for i in once), how
        assert right >= 0.97 * len(images), f"{right} of {len(images)}"
        try:
            infer(messages, tensors, runtime, "py", images[:2])
            raise AssertionError("a wrong shape was accepted")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
            check_details(error, "image")
        assert [m.name for m in runtime.ListModels(messages.ListModelsRequest()).models] == ["py"]
        runtime.Unload(messages.UnloadRequest(name="py"), timeout=60)
        try:
            infer(messages, tensors, runtime, "py", images[:1])
            raise AssertionError("an unloaded model answered")
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
        print(f"{target}: {right} of {len(images)} digits are right")


def main():
    with tempfile.TemporaryDirectory() as directory, daemon.Daemon() as krtd:
        messages, tensors, stubs = daemon.make_stubs(directory)
        neff = krtd.dir / "digits.neff"
        daemon.compile_model(daemon.DIGITS / "digits.onnx", neff)
        use(krtd.socket, messages, tensors, stubs, neff)
        use(krtd.tcp, messages, tensors, stubs, neff)


if __name__ == "__main__":
    main()
