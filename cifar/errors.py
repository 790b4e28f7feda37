"""The errors a user can cause.

UserError               a mistake of the user's, or of the world's: one clear message, exit status 2
└── DataError           images missing, broken or laid out wrong; a download that cannot be had
    └── DownloadError   the network said no

`tune.errors` continues the tree.
"""


class UserError(Exception):
    """A mistake that its message lets the user repair. Shown without a traceback."""


class DataError(UserError):
    """The images are missing, broken, or not laid out as the source needs them."""


class DownloadError(DataError):
    """A data set or a file of weights could not be downloaded."""
