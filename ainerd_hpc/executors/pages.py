"""The web pages of a run's Dask processes: for the owner of the run alone, or none.

Dask's schedulers and workers tell anybody who asks by HTTP what they do. Here workers tell nobody. The scheduler, where
there is a dashboard, answers on its own machine only, and only under an address that nobody can guess.
"""

from __future__ import annotations

import hmac
import secrets
from typing import Any

MODULES = ["ainerd_hpc.executors.pages"]
"""What Dask's processes load before they begin, which is this module."""
_SECRET = "ainerd-hpc.pages"  # noqa: S105
"""Where the configuration of Dask has the beginning of the only address that answers."""


class Pages:
    """How the scheduler of a run answers by HTTP.

    Parameters
    ----------
    is_shown : bool
        Whether there is a dashboard; its address holds a new secret then.
    """

    def __init__(self, is_shown: bool) -> None:
        self._is_shown, self._secret = is_shown, f"/{secrets.token_urlsafe(24)}/" if is_shown else ""

    @property
    def scheduler_options(self) -> dict[str, Any]:
        """The keyword arguments of a scheduler."""
        return {"dashboard": self._is_shown, "dashboard_address": "127.0.0.1:0", "http_prefix": self._secret or "/"}

    @property
    def settings(self) -> dict[str, object]:
        """The configuration of Dask."""
        link = f"http://127.0.0.1:{{port}}{self._secret}status"
        return {"distributed.dashboard.link": link, "distributed.scheduler.preload": MODULES, _SECRET: self._secret}


def dask_setup(process: Any) -> None:
    """Close the web pages of a scheduler or a worker, or hide them; Dask calls this when it begins."""
    import dask
    from distributed import Scheduler

    secret = dask.config.get(_SECRET, "")
    if secret and isinstance(process, Scheduler):
        _hide(process.http_application, secret)
    else:
        process.http_server.stop()


def _hide(application: Any, secret: str) -> None:
    """Have an application of Tornado answer 404 to all that do not ask under the secret: Dask's index would tell it."""
    from tornado.web import ErrorHandler

    find = application.find_handler

    def find_if_known(request: Any, **more: Any) -> Any:
        if hmac.compare_digest(request.path[: len(secret)].encode(), secret.encode()):
            return find(request, **more)
        return application.get_handler_delegate(request, ErrorHandler, {"status_code": 404})

    application.find_handler = find_if_known
