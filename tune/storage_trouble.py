"""What is wrong with a storage, in a line for the user; whether an error is the storage's or the training's. Pure."""

import errno
import os
import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from tune.errors import StorageError

_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO, errno.ENOTCONN}
_TROUBLE_WORDS = re.compile(  # the last two are torch.save's on a full disk
    "AWS Error [A-Z]|google::cloud::Status|PytorchStreamWriter failed writing file|inline_container.* unexpected pos"
)
_ERRNO = re.compile(r"\[errno (\d+)\]", re.IGNORECASE)
_AWS = re.compile(r"AWS Error (\w+(?: \(HTTP status \d+\))?) during \w+ operation: (.*)", re.DOTALL)
_CREDENTIALS = re.compile("ACCESS_DENIED|ACCESS_KEY|SIGNATURE|TOKEN|CREDENTIALS|OAuth|UNAUTHENTIC|PERMISSION_DENIED")
_UNREACHED = re.compile("NETWORK_CONNECTION|CURL error|Connection refused|resolve host")
_TODO = {
    errno.ENOENT: "make it, or mount it, on every node",
    errno.ENOSPC: "free some space there, or choose another",
    errno.EDQUOT: "free some of your quota there, or choose another",
}


def is_storage_trouble(error: BaseException) -> bool:
    """Whether `error`, or what it came from, says that a disk or the store is at fault, not what was training."""
    for link in _chain(error, set()):
        text = str(link)
        numbers = {int(number) for number in _ERRNO.findall(text)}  # an OSError that went through Ray is only a text
        if isinstance(link, OSError):
            numbers.add(link.errno or 0)
        if isinstance(link, StorageError) or numbers & _TROUBLE or _TROUBLE_WORDS.search(text):
            return True
    return False


def _chain(error: BaseException, seen: set[int]) -> Iterator[BaseException]:
    if id(error) in seen:
        return
    seen.add(id(error))
    yield error
    for link in (error.__cause__, error.__context__, getattr(error, "cause", None), *getattr(error, "exceptions", ())):
        if isinstance(link, BaseException):
            yield from _chain(link, seen)


def storage_error(shown: str, text: str) -> StorageError:
    """The error of `--storage`, on one line."""
    return StorageError(f"--storage {' '.join(shown.split()) or repr(shown)}: {' '.join(text.split())}")


def complaint(where: str, shown: str, error: BaseException, start: str = "") -> StorageError:
    """What is wrong and what to do about it, less the secrets that a library put into its message."""
    reason, todo = _reason(error, where.partition("://")[0])
    user = urlsplit(where, allow_fragments=False).netloc.rpartition("@")[0] if "://" in where else ""
    for secret in {part for raw in user.split(":") for part in (raw, unquote(raw)) if len(part) > 3}:
        reason = reason.replace(secret, "…")
    return storage_error(shown, f"{start}{reason}; {todo}")


def _reason(error: BaseException, scheme: str) -> tuple[str, str]:
    text = " ".join(str(error).split()) or type(error).__name__
    aws = _AWS.search(text)
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (found := _ERRNO.search(text)):
        number = int(found[1])
    if number is not None and not aws:
        return os.strerror(number), _TODO.get(number, "choose a place that can be written")
    reason = aws[2].partition(" (Request ID")[0].rpartition("Details: ")[2] if aws else text
    reason = aws[1] if aws and reason in ("", "No response body.") else reason
    reason = reason.partition(" error_info=")[0].rpartition("with a last message of ")[2]
    if "NO_SUCH_BUCKET" in text or re.search("^Bucket '.*' not found", text):
        return "the bucket does not exist", "make it, or add allow_bucket_creation=true to the URI"
    if _CREDENTIALS.search(text):
        names = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" if scheme == "s3" else "GOOGLE_APPLICATION_CREDENTIALS"
        return f"the credentials are missing or refused ({reason})", f"check {names} on this host"
    if _UNREACHED.search(text):
        return f"it cannot be reached ({reason})", "check endpoint_override, scheme and the network"
    return reason, "check the URI"
