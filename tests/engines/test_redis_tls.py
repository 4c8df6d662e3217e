"""A queue on a server that is reached by TLS: `rediss://`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis_server import RedisServer, free_port, program

from dbbasic_queue import Queue, StorageError
from dbbasic_queue.engines import open_engine

pytest.importorskip("rq")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A queue on a server of its own, which shows a certificate made for this test."""
    if shutil.which("openssl") is None or program() is None:
        pytest.skip("takes a server, and openssl for its certificate")
    own = ["-keyout", "key", "-out", "cert", "-subj", "/CN=localhost"]
    made = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", *made, *own, *names]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    port = free_port()
    settings = {
        "tls_port": str(port),
        "tls_cert_file": str(tmp_path / "cert"),
        "tls_key_file": str(tmp_path / "key"),
        "tls_ca_cert_file": str(tmp_path / "cert"),
        "tls_auth_clients": "no",
    }
    with RedisServer(tmp_path / "redis", **settings):
        yield f"rediss://127.0.0.1:{port}/0?name=shop"


def test_jobs_go_by_tls(address: str, tmp_path: Path) -> None:
    """With the certificate that the address names; options of TLS are no secret."""
    queue = Queue(f"{address}&ssl_ca_certs={tmp_path}/cert", "normal")
    job_id = queue.enqueue("mail", {"to": "Zoë"})
    assert queue.process_jobs({"mail": lambda payload: payload["to"]}).completed == 1
    job = queue.get_job(job_id)
    assert job is not None
    assert job["result"] == "Zoë"
    assert queue.engine.url.startswith("rediss://127.0.0.1:")


def test_a_certificate_that_nothing_vouches_for_is_refused(address: str) -> None:
    """Before anything is sent, and in words."""
    engine = open_engine(address, "normal", lock_timeout=0.5)
    with pytest.raises(StorageError, match="certificate verify failed"):
        engine.counts()
