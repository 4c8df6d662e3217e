"""`make demo`: the example shop's jobs on real input, from enqueue to the finished file.

Starts a mail server and a partner's web service that is down at first, both on this machine;
everything else is what an application does. `make demo ENGINE=redis` does the same with the jobs
on a Valkey or Redis server, which it starts, too: only the address differs.
"""

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from aiosmtpd.controller import Controller

from dbbasic_queue import Queue

SHOP = Path(__file__).parent / "shop"
SOURCES = Path(__file__).parent.parent / "dbbasic_queue"


class Mailbox:
    """Takes every mail that comes in."""

    def __init__(self):
        self.mails = []

    async def handle_DATA(self, server, session, envelope):  # the name that aiosmtpd calls
        self.mails.append(envelope)
        return "250 OK"


class Partner(BaseHTTPRequestHandler):
    """Is down at the first call, and up at the second."""

    calls = 0

    def do_GET(self):
        Partner.calls += 1
        self.send_response(503 if Partner.calls == 1 else 200)
        self.end_headers()
        self.wfile.write(b"thank you")

    def log_message(self, *args):
        pass


def say(text):
    print(f"\n\033[1m# {text}\033[0m" if sys.stdout.isatty() else f"\n# {text}", flush=True)


def run(*command, cwd):
    print(f"$ {shlex.join(command)}", flush=True)
    subprocess.run(command, cwd=cwd, check=True)


@contextlib.contextmanager
def redis_server(folder):
    """A server of its own for the jobs, as safe as docs/machines.md asks; its address."""
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        sys.exit("demo: needs valkey-server or redis-server: sudo apt-get install redis-server")
    port = free_port()
    settings = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    server = subprocess.Popen(
        [program, "--bind", "127.0.0.1", "--port", str(port), "--dir", folder, *words],
        stdout=subprocess.DEVNULL,
    )
    try:
        while server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}/0?name=shop"
    finally:
        server.terminate()
        server.wait()


def main(engine):
    mailbox = Mailbox()
    smtp = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    smtp.start()
    partner = ThreadingHTTPServer(("127.0.0.1", 0), Partner)
    threading.Thread(target=partner.serve_forever, daemon=True).start()
    try:
        with tempfile.TemporaryDirectory(prefix="dbq-demo-") as folder:
            if engine == "redis":
                with redis_server(folder) as url:
                    os.environ["DBQ_URL"] = url
                    demo(Path(folder), url, smtp.port, partner.server_port)
            else:
                table = Path(folder) / "data" / "queue.tsv"
                os.environ["DBQ_FILE"] = str(table)
                demo(Path(folder), table, smtp.port, partner.server_port)
    finally:
        smtp.stop()
        partner.shutdown()
    check("the mail server got 2 mails", len(mailbox.mails) == 2)
    check("the partner was called twice: down, then up", Partner.calls == 2)


def free_port():
    """Of our own choice, as aiosmtpd connects to the port it was given to see whether it is up."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def demo(folder, address, smtp_port, partner_port):
    python, dbq = sys.executable, str(Path(sys.executable).with_name("dbq"))
    report = folder / "checksums.txt"
    if isinstance(address, Path):
        look = ("cat", str(address))
    else:  # the jobs are RQ's, so its tools see them
        rq = str(Path(sys.executable).with_name("rq"))
        look = (rq, "info", "--raw", "--url", address.partition("?")[0])
    os.environ["SHOP_SMTP_HOST"], os.environ["SHOP_SMTP_PORT"] = "127.0.0.1", str(smtp_port)

    say("The shop enqueues: two mails, a report, a call; one for later, one that is cancelled")
    queue = Queue(address)
    for name in ("Zoë", "Ben"):
        to = f"{name.lower().replace('ë', 'e')}@example.com"
        queue.enqueue("send_mail", {"to": to, "subject": "Welcome", "body": f"Hello {name}!"})
    queue.enqueue("checksum_report", {"folder": str(SOURCES), "report": str(report)})
    call = queue.enqueue("call_partner", {"url": f"http://127.0.0.1:{partner_port}/order/17"})
    queue.enqueue("checksum_report", {"folder": "later", "report": "later"}, time.time() + 86400)
    mistake = queue.enqueue("send_mail", {"to": "nobody@example.com", "subject": "", "body": ""})
    queue.cancel_job(mistake)
    run(*look, cwd=folder)

    say("The worker runs what is due; the call fails, and is tried again a second later")
    run(python, str(SHOP / "worker.py"), cwd=SHOP)

    say("What keeps the jobs, without a command of ours")
    run(*look, cwd=folder)
    say("The same by the command")
    run(dbq, "list", cwd=folder)
    run(dbq, "stats", cwd=folder)
    run(dbq, "show", call, cwd=folder)
    say("What was done")
    run("sha256sum", "--check", "--quiet", str(report), cwd=folder)
    check("sha256sum agrees with the report", True)
    counts = queue.count_jobs()
    check("4 completed, 1 for later, 1 cancelled", [*counts.values()] == [1, 0, 4, 0, 1])
    check("the call took 2 attempts", queue.get_job(call)["attempts"] == 2)


def check(what, holds):
    print(f"{'ok' if holds else 'NOT OK'}: {what}")
    if not holds:
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["file"])
