"""A real browser for the pages of human evaluation, and a server for it, both of this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cameleer.human.accounts import open_session
from cameleer.human.campaign import Instance
from tests.asgi import in_thread
from tests.human.site import Site, instances, site

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")  # while it is there, an event loop runs in this thread
def chromium() -> Iterator[Any]:
    """Chromium as the system has it, driven by Playwright."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("there is no chromium on this machine")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def serving(of: Site) -> Iterator[str]:
    """The address of an app that is served in a thread."""
    with in_thread(of.app) as address:
        yield address


class Tab:
    """A page in a browser of somebody's own, with all that it asked of the network."""

    def __init__(self, page: Any, address: str, site: Site) -> None:
        self.page, self.address, self.site = page, address, site
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: Any) -> None:
        # What fails of the network is said too; tests make it fail.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def go(self, path: str) -> Any:
        self.page.goto(self.address + path)
        return self.page

    def press(self, keys: str) -> None:
        """Keys one after the other, as `q w Enter`."""
        for key in keys.split():
            self.page.keyboard.press(key)

    def rated(self, keys: str = "q s 1 Enter") -> None:
        """Rate what is shown, and wait for what comes next."""
        before = self.task
        self.press(keys)
        self.page.wait_for_function(
            "task => document.querySelector('#rating')?.dataset.task !== task", arg=before
        )

    @property
    def task(self) -> str | None:
        return str(self.page.evaluate("document.querySelector('#rating')?.dataset.task"))

    @property
    def state(self) -> str:
        return str(self.page.inner_text("#said"))

    def chosen(self) -> dict[str, str]:
        found: dict[str, str] = self.page.evaluate(
            "Object.fromEntries([...new FormData(document.querySelector('#rating'))]"
            ".filter(([name]) => !['csrf', 'submission'].includes(name)))"
        )
        return found


@pytest.fixture
def open_tab(chromium: Any, tmp_path: Path) -> Iterator[Callable[..., Tab]]:
    """Opens a tab: of an annotator named ann, of an admin, or of nobody (`role=None`)."""
    with ExitStack() as stack:
        sites: list[tuple[Site, str]] = []
        numbers = count(1)

        def open_one(
            items: list[Instance] | None = None,
            role: Any = "annotator",
            dark: bool = False,
            **options: Any,
        ) -> Tab:
            if not sites:
                made = stack.enter_context(site(tmp_path / "c", items or instances(3)))
                sites.append((made, stack.enter_context(serving(made))))
            made, address = sites[0]
            options = {"viewport": DESK, "color_scheme": "dark" if dark else "light", **options}
            context = stack.enter_context(chromium.new_context(**options))
            if role:
                rater = made.rater(f"{role}-{next(numbers)}", role)
                token = open_session(made.engine, rater.id)
                context.add_cookies([{"name": made.cookie, "value": token, "url": address}])
            page = context.new_page()
            page.set_default_timeout(20_000)
            return Tab(page, address, made)

        yield open_one


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of pages go, for somebody to look at."""
    return tmp_path_factory.mktemp("screenshots")
