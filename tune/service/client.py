"""A cluster that jobs are sent to, through the address of Ray's dashboard. The only module here that imports Ray."""

import asyncio
import logging
import os
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_exponential

from cifar.errors import UserError, first_line
from tune.errors import ClusterError, LostError
from tune.service.code import Code
from tune.service.sessions import Session, free_id, session

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_ANSWER_S = 10
_SILENCE_S = 90  # a search says something every minute, so that a connection without a word is none
_PATIENCE_S = 600
_POLL_S = 1.0
_SETTLED_S = 3  # Ray looks after a job once a second, and writes down anew what it misses
STOP_WAIT_S = 600  # for running trials to finish and save their epoch
_TOKEN_WAYS = (
    "set RAY_AUTH_TOKEN to it, or RAY_AUTH_TOKEN_PATH to a file that holds it, or put it into ~/.ray/auth_token"
)


class Cluster:
    """The jobs of a cluster.

    Raises ClusterError for whatever it refuses: no token or a wrong one, no Ray, no such job; LostError where it does
    not answer.
    """

    def __init__(self, address: str | None) -> None:
        self.address = _checked(address)
        self._heard = time.monotonic()

    @cached_property
    def _client(self) -> "JobSubmissionClient":
        # Ray reads it once, when it is imported; and a token goes only to where one is asked for
        os.environ["RAY_AUTH_MODE"] = _authentication_mode(self.address)
        from ray.job_submission import JobSubmissionClient

        for name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk", "_private.runtime_env.packaging"):
            logging.getLogger(f"ray.{name}").setLevel(logging.ERROR)
        return JobSubmissionClient(self.address)

    def sessions(self) -> list[Session]:
        """All sessions that the cluster knows of, in the order in which they were sent."""
        with self._asked():
            jobs = self._client.list_jobs()
        return sorted(filter(None, map(session, jobs)), key=lambda one: one.submitted)

    def session(self, job: str) -> Session:
        """What is known of a job now."""
        with self._asked():
            found = session(self._client.get_job_info(job))
        assert found is not None, "only our own are asked for"
        return found

    def submit(
        self,
        entrypoint: str,
        about: dict[str, str],
        code: Code | None = None,
        variables: dict[str, str] | None = None,
        node: str | None = None,
    ) -> str:
        """Begins a job, and gives its id.

        about: what everyone may know of it, `experiment` among it. variables: of its environment. node: the one that
        it is to run on.
        """
        runtime_env: dict[str, Any] = {"env_vars": variables or {}}
        if code is not None:
            runtime_env["working_dir"] = str(code.folder)
        with self._asked():
            taken = [job.submission_id or "" for job in self._client.list_jobs()]
            return self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=free_id(about["experiment"], taken),
                runtime_env=runtime_env,
                metadata=about,
                entrypoint_label_selector={"ray.io/node-id": node} if node else None,
            )

    def logs(self, job: str) -> str:
        """All that a job has said so far."""
        with self._asked():
            return self._client.get_job_logs(job)

    def follow(self, job: str) -> Generator[str]:
        """What a job says until its end, piece by piece; each once, however often the connection is lost.

        Raises LostError where nothing was heard for ten minutes.
        """
        told = 0
        for attempt in self._patiently():
            with attempt:
                skipped = 0
                with closing(self._tail(job)) as pieces:
                    for piece in pieces:
                        new = piece[max(0, told - skipped) :]
                        skipped += len(piece)
                        if new:
                            told += len(new)
                            yield new
                if not self._over(job):
                    raise LostError(f"{self.address}: the connection to the job's log ended")

    def ended(self, job: str) -> Session:
        """Waits for a job's end."""
        for attempt in self._patiently():
            with attempt:
                while not (known := self.session(job)).over:
                    self._heard = time.monotonic()
                    time.sleep(_POLL_S)
        return known

    def stop(self, job: str) -> None:
        """Asks a job to end; returns at once."""
        with self._asked():
            self._client.stop_job(job)

    def forget(self, job: str) -> None:
        """Waits for a job's end, and takes it from Ray's list."""
        for attempt in self._patiently():
            with attempt:
                while not self._over(job):
                    time.sleep(_POLL_S)
        time.sleep(_SETTLED_S)
        with self._asked():
            self._client.delete_job(job)

    def _over(self, job: str) -> bool:
        with self._asked():
            return self._client.get_job_status(job).is_terminal()

    def _patiently(self) -> Retrying:
        """Again when the connection is lost, until nothing was heard for long."""
        self._heard = time.monotonic()

        def enough(state: RetryCallState) -> bool:
            return time.monotonic() - self._heard > _PATIENCE_S

        return Retrying(
            retry=retry_if_exception_type(LostError),
            wait=wait_exponential(multiplier=0.5, max=10),
            stop=enough,
            reraise=True,
        )

    def _tail(self, job: str) -> Generator[str]:
        with self._asked(), asyncio.Runner() as runner:
            pieces: Any = self._client.tail_job_logs(job)
            try:
                while True:
                    try:
                        piece = runner.run(asyncio.wait_for(anext(pieces), _SILENCE_S))
                    except StopAsyncIteration:
                        return
                    self._heard = time.monotonic()
                    yield piece
            finally:
                runner.run(_closed(pieces))

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Errors of Ray's and of the network as a line for the user."""
        import aiohttp

        try:
            yield
        except UserError:
            raise
        except (requests.RequestException, aiohttp.ClientError, OSError) as error:  # TimeoutError among them
            raise LostError(f"--address {self.address}: does not answer ({first_line(error)})") from None
        except Exception as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> Exception:
        from ray.exceptions import AuthenticationError

        text = str(error)
        if isinstance(error, AuthenticationError):
            got = "no token was found"
            if "invalid" in text:
                got = "the one that was given is not this cluster's"
            elif "RAY_AUTH_TOKEN_PATH is set" in text:
                got = "the file that RAY_AUTH_TOKEN_PATH names is empty or cannot be read"
            return ClusterError(f"--address {self.address}: wants a token, and {got}; {_TOKEN_WAYS}")
        if not isinstance(error, RuntimeError):
            return error
        if "status code 404" in text:
            return ClusterError(f"--address {self.address}: no longer knows this job")
        if "already exists" in text:
            return ClusterError(f"--address {self.address}: someone sent a job of this name just now; try again")
        return LostError(f"--address {self.address}: {(text.strip().splitlines() or ['failed'])[-1]}")


async def _closed(pieces: Any) -> None:
    """Closes a log, of which the next piece may be waited for: a signal has ended the wait, and nobody has told it."""
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await pieces.aclose()


def _checked(address: str | None) -> str:
    if not address:
        raise ClusterError(
            "--address: is missing; name the cluster by the address of Ray's dashboard, as in --address "
            "http://head:8265, or set RAY_API_SERVER_ADDRESS to it"
        )
    address = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(address)
    except ValueError:  # not shown: it may hold a password
        raise ClusterError("--address: cannot be read; must be http://HOST:PORT, with [] around an IPv6 host") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ClusterError(f"--address {parts.scheme}://{parts.netloc.rpartition('@')[2]}: must be http://HOST:PORT")
    if parts.username is not None:
        raise ClusterError("--address: must not hold a name or password; the token is given otherwise: " + _TOKEN_WAYS)
    return address.rstrip("/")


def _authentication_mode(address: str) -> str:
    """token or disabled. Raises LostError if nobody answers, ClusterError if it is not Ray's dashboard."""
    try:
        answer = requests.get(f"{address}/api/authentication_mode", timeout=_ANSWER_S)
        return str(answer.json()["authentication_mode"])
    except requests.exceptions.JSONDecodeError:
        pass
    except requests.exceptions.SSLError as error:
        raise ClusterError(
            f"--address {address}: its certificate is not trusted ({first_line(error)}); set REQUESTS_CA_BUNDLE"
        ) from None
    except requests.ConnectionError as error:
        if "Connection aborted" not in str(error):  # by one who speaks no HTTP, as Ray's own port
            raise LostError(f"--address {address}: nobody answers there; {_WHERE}") from None
    except requests.RequestException as error:
        raise LostError(f"--address {address}: does not answer ({type(error).__name__}); {_WHERE}") from None
    except (KeyError, TypeError):
        pass
    raise ClusterError(f"--address {address}: is not Ray's dashboard; {_WHERE}")


_WHERE = "it is what `ray start --head` names as its dashboard, as in http://head:8265"
