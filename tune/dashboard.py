"""`python -m tune dashboard`: optuna-dashboard on an experiment's study, while it is searched and after.

Only for looking: what would change the study is refused, since optuna-dashboard can rename and delete one, and tell the
values of its trials, in which the search's own record would no longer be true.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.util import find_spec
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import click

from cifar.errors import UserError
from tune.loopback import is_loopback

if TYPE_CHECKING:
    from tune.study_storage import Read

_LOOKING = {"GET", "HEAD", "OPTIONS"}
_REFUSED = b'{"reason": "the study is only shown here: it is the record of a search"}'

App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    """Answers several requests at once, and waits for none of them at its end."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """Says nothing of each request."""

    def log_message(self, *args: Any) -> None:
        """Nothing."""


def dashboard(name: str, storage: str, study: str | None, host: str, port: int) -> None:
    """Serves the study of experiment `name` until Ctrl-C or SIGTERM. port: 0 for a free one.

    study: its database, where that is behind a password. Raises UserError if the package is missing, there is no
    such experiment or study, or nobody can listen there.
    """
    if find_spec("optuna_dashboard") is None:
        raise UserError(
            "dashboard needs optuna-dashboard, which is not installed; run pip install 'cifar-tune[dashboard]'"
        )
    read, copied = _study(name, storage, study)
    from optuna_dashboard import wsgi  # which takes seconds

    kept = read.study._storage
    with _listening(host, port, _only_looking(wsgi(kept))) as server:
        if copied:
            click.echo(f"a copy of the study as it is now in {copied}; begin again for a later one")
        at = f"[{host}]" if ":" in host else host
        page = f"http://{at}:{server.server_port}/dashboard/studies/{read.study._study_id}"
        if not is_loopback(host):
            click.echo(f"warning: it listens on {host} and asks for no password: who reaches it sees it", err=True)
        with suppress(KeyboardInterrupt):
            click.echo(f"ready: {page}; Ctrl-C ends it")
            server.serve_forever()


def _study(name: str, storage: str, study: str | None) -> "tuple[Read, str]":
    """The study, and the object store that it was copied from, if it was."""
    from tune.resume import reopen
    from tune.study_storage import live_journal, read_database, recorded

    directory = reopen(storage, name, "dashboard", read_only=True)
    if study:
        return read_database(study, name), ""
    if not directory.journal.exists():
        return recorded(directory, f"dashboard: {name}")[1], ""
    return live_journal(directory.journal), directory.remote.uri if directory.remote else ""


def _listening(host: str, port: int, app: App) -> WSGIServer:
    try:
        return make_server(host, port, app, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror or error}); "
            "choose another one, or --port 0 for any that is free"
        ) from None


def _only_looking(app: App) -> App:
    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in _LOOKING:
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "application/json")])
        return [_REFUSED]

    return answer
