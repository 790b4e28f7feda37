"""A real server on a loopback port, and a real model; the replicas of Ray Serve are for test_serve.py."""

import asyncio
import http.client
import io
import json
import socket
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
from click.testing import CliRunner
from PIL import Image

from cifar.predict import main as predict_command
from cifar.predictor import load_predictor

uvicorn = pytest.importorskip("uvicorn", reason="needs cifar-tune[serve]")
from tune import http_api  # noqa: E402

TOKEN = "a-token"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
MOST = 5000  # bytes of a body


class Server:
    """The application on a free port."""

    def __init__(self, predict):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        app = http_api.application(predict, {"classes": ["0", "1"]}, TOKEN, MOST)
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
        self.server = uvicorn.Server(config)
        self.thread = Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.thread.start()

    def end(self):
        self.server.should_exit = True
        self.thread.join()
        self.listener.close()

    def ask(self, method="POST", path="/predict", body=None, headers=RIGHT):
        """Status, headers, and what the JSON says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        found = answer.status, answer.headers, json.loads(answer.read())
        connection.close()
        return found

    def begin(self, head, body=b""):
        """A connection on which a request has begun."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        authorization = f"Authorization: Bearer {TOKEN}"
        connection.sendall("\r\n".join([head, "Host: x", authorization, "", ""]).encode() + body)
        return connection


@pytest.fixture
def serve():
    servers = []

    def begin(predict):
        servers.append(Server(predict))
        return servers[-1]

    yield begin
    for each in servers:
        each.end()


@pytest.fixture(scope="module")
def server(model_folder):
    """Of the model, as a replica does it, without Ray."""
    predictor = load_predictor(model_folder)
    with ThreadPoolExecutor(2) as pool:

        async def predict(content):
            (found,) = await asyncio.to_thread(http_api.answers, predictor, [content], pool)
            return found

        server = Server(predict)
        yield server
        server.end()


def refused(answer, status):
    """What was said, once sure that it is an error in a line."""
    assert answer[0] == status, answer
    assert answer[1]["content-type"] == "application/json"
    assert list(answer[2]) == ["error"]
    said = answer[2]["error"]
    assert "\n" not in said
    assert "Traceback" not in said
    return said


def image(kind="PNG", size=(8, 8), mode="L"):
    file = io.BytesIO()
    Image.new(mode, size, 99).save(file, kind)
    return file.getvalue()


def png(width, height):
    """The beginning of a PNG of that size, in a few bytes."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_an_image_gets_what_predict_says_of_it(server, model_folder):
    example = model_folder / "example.png"
    status, headers, said = server.ask(body=example.read_bytes())
    assert (status, headers["content-type"]) == (200, "application/json")
    told = CliRunner().invoke(predict_command, ["--model", str(model_folder), "--json", str(example)])
    (expected,) = json.loads(told.stdout)["images"]
    assert said == {**expected, "image": None}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
def test_every_format_of_the_training_images_is_taken_by_its_content(server, kind):
    status, _, said = server.ask(body=image(kind, (20, 30)), headers={**RIGHT, "Content-Type": "text/plain"})
    assert status == 200
    assert sum(said["probabilities"].values()) == pytest.approx(1)


@pytest.mark.parametrize("body", [b"", b"no image", image("GIF"), b"%PDF-1.4 a document"])
def test_what_is_no_image_of_a_known_format_is_415(server, body):
    said = refused(server.ask(body=body), 415)
    assert "no image of a known format; those are bmp, jpeg, jpg, png, webp; send the image file itself" in said


def test_a_broken_image_is_422(server):
    whole = image("PNG", (40, 40), "RGB")
    assert "broken or too large: it cannot be read: OSError: " in refused(server.ask(body=whole[:-40]), 422)


def test_more_pixels_than_are_honest_are_422(server):
    assert "DecompressionBombError" in refused(server.ask(body=png(60_000, 60_000)), 422)
    # up to twice Pillow's limit Pillow itself only warns
    assert "DecompressionBombWarning" in refused(server.ask(body=png(10_000, 10_000)), 422)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pixels_are_counted_where_warnings_are_none(server):
    said = refused(server.ask(body=png(10_000, 10_000)), 422)
    assert "it has 10000 x 10000 pixels, and may have 89478485" in said


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "this needs a token; send the header Authorization: Bearer TOKEN"),
        ({"Authorization": "Bearer "}, "this needs a token"),
        ({"Authorization": "Bearer a-toke"}, "the token is wrong"),
        ({"Authorization": "Bearer a-token2"}, "the token is wrong"),
        ({"Authorization": "Bearer a-tok\xe9n"}, "the token is wrong"),
        ({"Authorization": f"Basic {TOKEN}"}, "the token is wrong"),
        ({"Authorization": TOKEN}, "this needs a token"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("GET", "/")])
def test_without_the_token_it_is_401(server, headers, words, method, path):
    answer = server.ask(method, path, headers=headers)
    assert words in refused(answer, 401)
    assert answer[1]["www-authenticate"] == "Bearer"


def test_the_scheme_of_the_token_may_be_written_small(server):
    assert server.ask("GET", "/", headers={"Authorization": f"bearer {TOKEN}"})[0] == 200


def test_the_model_is_told_and_health_needs_no_token(server):
    assert server.ask("GET", "/")[2] == {"classes": ["0", "1"]}
    assert server.ask("GET", "/health", headers={})[::2] == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/nope", "/predict/", "/-/routes"])
def test_another_path_is_404(server, path):
    assert refused(server.ask(path=path), 404) == f"there is no {path}; there are POST /predict, GET / and GET /health"


@pytest.mark.parametrize(
    ("method", "path", "allowed"), [("GET", "/predict", "POST"), ("PUT", "/predict", "POST"), ("DELETE", "/", "GET")]
)
def test_another_method_is_405(server, method, path, allowed):
    answer = server.ask(method, path)
    assert refused(answer, 405).startswith(f"{path} does not take {method}; it takes ")
    assert allowed in answer[1]["allow"]


def test_a_body_of_just_the_most_bytes_is_taken(server):
    assert server.ask(body=image().ljust(MOST, b"\0"))[0] == 200
    said = refused(server.ask(body=image().ljust(MOST + 1, b"\0")), 413)
    assert said == "the body has more than 5000 bytes; --max-bytes of the server allows no more"


def test_a_large_body_is_refused_before_it_is_sent(server):
    with server.begin("POST /predict HTTP/1.1\r\nContent-Length: 1000000000000") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_large_body_of_unknown_length_is_refused_before_its_end(server):
    chunk = b"800\r\n" + b"\0" * 0x800 + b"\r\n"
    with server.begin("POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked", chunk * 3) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_in_chunks_is_taken(server):
    parts = [image()[:20], image()[20:]]
    assert server.ask(body=iter(parts))[0] == 200


def test_a_body_that_does_not_come_is_408(server, monkeypatch):
    monkeypatch.setattr(http_api, "BODY_S", 0.1)
    with server.begin("POST /predict HTTP/1.1\r\nContent-Length: 100", b"half") as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_client_that_leaves_disturbs_nobody(server, caplog):
    server.begin("POST /predict HTTP/1.1\r\nContent-Length: 100", b"half").close()
    time.sleep(0.1)
    assert server.ask(body=image())[0] == 200
    assert not caplog.records


def test_no_answer_in_time_is_503(serve, monkeypatch):
    monkeypatch.setattr(http_api, "PREDICT_S", 0.1)
    answer = serve(lambda content: asyncio.sleep(60)).ask(body=b"image")
    assert refused(answer, 503) == "no replica answered in 0.1 s; try again later"
    assert answer[1]["retry-after"] == "1"


def test_what_cannot_be_predicted_now_is_told_as_it_is(serve):
    async def predict(content):
        return http_api.error(503, "too many\nrequests")

    answer = serve(predict).ask(body=b"image")
    assert refused(answer, 503) == "too many requests"
    assert answer[1]["retry-after"] == "1"


def test_a_fault_of_ours_is_500_and_its_traceback_is_in_the_log_only(serve, caplog):
    async def predict(content):
        raise ValueError("a secret of the server's")

    server = serve(predict)
    assert refused(server.ask(body=b"image"), 500) == "a fault of the server's; its log says more"
    server.end()  # the log is written after the answer
    (record,) = caplog.records
    assert record.exc_info[0] is ValueError


def test_answers_of_a_batch_are_those_of_each_alone(model_folder):
    predictor = load_predictor(model_folder)
    contents = [image(), b"no image", (model_folder / "example.png").read_bytes(), image()[:-30], image("JPEG")]
    with ThreadPoolExecutor(2) as pool:
        together = http_api.answers(predictor, contents, pool)
        alone = [http_api.answers(predictor, [content], pool)[0] for content in contents]
    assert [status for status, _ in together] == [200, 415, 200, 422, 200]
    for (status, said), (_, expected) in zip(together, alone, strict=True):
        if status == 200:
            assert said["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
        else:
            assert said == expected
