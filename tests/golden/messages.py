#!/usr/bin/python3
"""Golden tests of what the programs say: each file in tests/golden/messages holds input files, commands, and what
these print (stderr, then stdout).

    messages.py [--update] [FILE...]

    @ NAME TYPE   starts an input file: a protobuf message in text form (TYPE one of MESSAGES), or as it stands (text)
    $ COMMAND     kcc and its wrappers are those of the build; run in a directory with the input files alone
    exit N        below the output of a command that fails

Lines before the first of these say what the file is about. --update rewrites the outputs.
"""

import glob
import os
import re
import subprocess
import sys
import tempfile

SOURCE = os.environ["KAENA_SOURCE_DIR"]
BUILD = os.environ["KAENA_BUILD_DIR"]
MESSAGES = {
    "onnx": ("onnx/onnx.proto", "onnx.ModelProto"),
    "graphdef": ("tensorflow/graph.proto", "tensorflow.GraphDef"),
    "savedmodel": ("tensorflow/saved_model.proto", "tensorflow.SavedModel"),
}
# What differs from run to run.
VARIABLE = [(re.compile(r"\b\d+\.\d\d s\b"), "T s"), (re.compile(r"kcc \d+\.\d+\.\d+"), "kcc VERSION")]


def write_input(directory, name, kind, text):
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    data = text.encode()
    if kind != "text":
        proto, message = MESSAGES[kind]
        data = subprocess.run(["protoc", "-I", f"{SOURCE}/proto", f"--encode={message}", f"{SOURCE}/proto/{proto}"],
                              input=data, check=True, stdout=subprocess.PIPE).stdout
    with open(path, "wb") as file:
        file.write(data)


def run(directory, command):
    path = f"{BUILD}/compiler/kcc:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", command], cwd=directory, check=False, text=True, timeout=120,
                          env=os.environ | {"PATH": path, "LC_ALL": "C.UTF-8"},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out = done.stderr + done.stdout
    for pattern, word in VARIABLE:
        out = pattern.sub(word, out)
    out = "".join(line.rstrip() + "\n" for line in out.splitlines())
    return out + (f"exit {done.returncode}\n" if done.returncode else "")


def sections(text):
    """Pairs of a head line ('' for the introduction) and the lines below it."""
    head, body = "", []
    for line in text.splitlines(keepends=True):
        if line[:2] in ("@ ", "$ "):
            yield head, "".join(body)
            head, body = line.rstrip("\n"), []
        else:
            body.append(line)
    yield head, "".join(body)


def check(path, update):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    result, wrong = "", 0
    with tempfile.TemporaryDirectory() as directory:
        for head, body in sections(text):
            if head.startswith("@ "):
                _, name, kind = head.split()
                write_input(directory, name, kind, body)
            elif head.startswith("$ "):
                got = run(directory, head[2:])
                if got != body and not update:
                    print(f"{path}: {head}\n-- expected\n{body}-- got\n{got}")
                    wrong += 1
                body = got
            result += (head + "\n" if head else "") + body
    if update:
        with open(path, "w", encoding="utf-8") as file:
            file.write(result)
    return wrong


def main():
    update = "--update" in sys.argv[1:]
    files = [a for a in sys.argv[1:] if a != "--update"]
    files = files or sorted(glob.glob(f"{SOURCE}/tests/golden/messages/*.txt"))
    wrong = sum(check(path, update) for path in files)
    print(f"{len(files)} files, {wrong} wrong")
    sys.exit(1 if wrong or not files else 0)


if __name__ == "__main__":
    main()
