"""The command `dbq serve`, and the page as a WSGI callable for other servers."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .common import DONE, Command, UsageError, arg, complain, config_of, place_of
from .seeing import reader_of

if TYPE_CHECKING:
    from ..views.guard import Guard
    from ..views.page import Page

ADDRESS: Final = "127.0.0.1"
PORT: Final = 8053
PATIENCE: Final = 10  # seconds for which a browser may be silent in the middle of a request


def _serve(args: argparse.Namespace) -> int:
    page = _page_of(args)
    with contextlib.suppress(KeyboardInterrupt):
        _run(page, args.bind, args.port)
    return DONE


def _page_of(args: argparse.Namespace) -> Page:
    """The page that the arguments describe. Raises `UsageError`, `ConfigError`."""
    from ..views.acts import NO_RIGHT, READ_ONLY, acts_of
    from ..views.page import Page

    guard = _guard(args)
    reader = reader_of(args, payloads=args.payloads)
    own = config_of(args) if place_of(args).address is None else None
    acts = {} if args.read_only else acts_of(reader.queue, own)
    why = READ_ONLY if args.read_only else NO_RIGHT
    return Page(reader, guard, acts, why=why, payloads=args.payloads)


def _guard(args: argparse.Namespace) -> Guard:
    from ..views.guard import Guard, is_local, read_passwords

    passwords = read_passwords(Path(args.password_file)) if args.password_file else {}
    proxy = (args.proxy[0], args.proxy[1]) if args.proxy else None
    local = args.bind == "localhost" or is_local(args.bind)
    if not (local or passwords or proxy):
        raise UsageError(
            f"--bind {args.bind}: other machines reach it there: give --password-file, or --proxy"
            " for a server that says who asks"
        )
    hosts = {args.bind, *args.host}
    return Guard(frozenset(each.lower().strip("[]") for each in hosts), passwords, proxy)


def _run(page: Page, address: str, port: int) -> None:
    """Serve the page until a signal: by waitress where it is installed."""
    try:
        from waitress import create_server
    except ImportError:
        _run_alone(page, address, port)
        return
    from ..views.page import LARGEST

    # That a request waits for a thread is not worth a line at the terminal.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = create_server(
        page,
        host=address,
        port=port,
        threads=4,
        ident="dbq",
        max_request_body_size=LARGEST,  # more would be put into a file before the page is asked
        clear_untrusted_proxy_headers=False,  # the page refuses what has them
    )
    _tell(address, server.effective_port)
    server.run()


def _run_alone(page: Page, address: str, port: int) -> None:
    """Serve it by the standard library's server."""
    import signal
    import socket
    import threading
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    class Handler(WSGIRequestHandler):
        """Waits for no browser for ever, and tells only what goes wrong."""

        timeout = PATIENCE

        def get_environ(self) -> dict[str, Any]:
            """Leave out a header `X_User`, which WSGI cannot tell from a proxy's `X-User`."""
            for name in [each for each in self.headers if "_" in each]:
                del self.headers[name]
            return super().get_environ()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing of a request."""

    class Server(ThreadingMixIn, WSGIServer):
        """One that also takes an address of IPv6, and others while a browser is slow."""

        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Tell of what goes wrong here, and not of a browser that is gone or silent."""
            if not isinstance(sys.exc_info()[1], OSError):
                super().handle_error(request, client_address)

        address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

    with make_server(address, port, page, Server, Handler) as server:

        def stop(number: int, frame: Any) -> None:
            """End between two requests: wsgiref takes an exception in one for a fault of it."""
            threading.Thread(target=server.shutdown, daemon=True).start()

        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, stop)
        _tell(address, server.server_port)
        server.serve_forever()


def _tell(address: str, port: int) -> None:
    name = f"[{address}]" if ":" in address else address
    complain(f"the page is at http://{name}:{port}/; Ctrl-C ends it", DONE)
    sys.stderr.flush()


# -- for other servers -----------------------------------------------------------------------------


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer a request as WSGI has it: the page, with the options in `$DBQ_SERVE`.

    They are those of `dbq serve`, quoted as in a shell: `--password-file /etc/shop/dbq.users`. The
    queue is found as the commands find it.
    """
    return page()(environ, start_response)


@cache
def page() -> Page:
    """Return the page of this process, made at its first use."""
    return _page_of(_arguments(os.environ))


def _arguments(environment: Mapping[str, str]) -> argparse.Namespace:
    from .main import parse

    return parse(["serve", *shlex.split(environment.get("DBQ_SERVE", ""))])


SERVE: Final = Command(
    "serve",
    "serve the report as a page with buttons: retry, cancel, pause, run now",
    _serve,
    "dbq serve\ndbq serve --port 8000 --read-only\n"
    "dbq serve --bind 10.0.0.5 --password-file /etc/myapp/dbq.users",
    (
        arg("--bind", metavar="ADDRESS", default=ADDRESS, help=f"listen there ({ADDRESS})"),
        arg("--port", metavar="N", type=int, default=PORT, help=f"listen there ({PORT}; 0: any)"),
        arg("--read-only", action="store_true", help="show no buttons"),
        arg(
            "--password-file",
            metavar="FILE",
            help="lines NAME:PASSWORD; each request has to give one. Mode 0600",
        ),
        arg(
            "--proxy",
            nargs=2,
            metavar=("ADDRESS", "HEADER"),
            help="take the word of a server there that has asked who it is, in this header",
        ),
        arg(
            "--host",
            metavar="NAME",
            action="append",
            default=[],
            help="a name, beside localhost, that the page is asked by; repeat it for more",
        ),
        arg("--payloads", action="store_true", help="show payloads, too, less what is secret"),
    ),
)
