"""A headless Chromium, driven through the pipe that it has for its DevTools."""

import fcntl
import json
import os
import select
import shutil
import subprocess
import time

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run"),
    *("--hide-scrollbars", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
)

# Visible text and loaded pictures of a page, shadow trees included.
_READ = """
(() => {
  const texts = [], pictures = [];
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE && node.data.trim())
      texts.push(node.data.trim());
    if (node.nodeType === Node.ELEMENT_NODE) {
      if (["SCRIPT", "STYLE", "TEMPLATE"].includes(node.tagName)) return;
      if (!node.checkVisibility()) return;
      if (node.tagName === "IMG" && node.naturalWidth)
        pictures.push([node.naturalWidth, node.naturalHeight]);
    }
    if (node.shadowRoot) node.shadowRoot.childNodes.forEach(walk);
    node.childNodes.forEach(walk);
  };
  if (document.body) walk(document.body);
  return {texts, pictures};
})()
"""


def find_program():
    """The path of a Chromium, None if none is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """Opens pages; to be used in a `with` statement."""

    def __init__(self, program, profile):
        """Starts `program` with the folder `profile` for its own files."""
        ends = [*os.pipe(), *os.pipe()]
        # Chromium reads from 3 and writes to 4: the others must be out of the way.
        theirs_in, self._to, self._from, theirs_out = (
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends
        )
        for end in ends:
            os.close(end)
        command = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash"]
        command += [program, *OPTIONS, "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._number, self._unread = 0, b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        os.close(self._to)
        os.close(self._from)
        self._process.terminate()
        self._process.wait(30)

    def open(self, url, width=1280, height=800):
        """Opens a page in a window of so many pixels."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)
        page = Page(self, session["sessionId"])
        page.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1},
            mobile=False,
        )
        page.call("Page.navigate", url=url)
        return page

    def call(self, method, session=None, **parameters):
        """The result of a DevTools command.

        Raises:
          RuntimeError: it failed, or Chromium is gone or silent.
        """
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": session} if session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            answer = json.loads(self._next_message(deadline))
            if answer.get("id") != self._number:
                continue  # an event
            if "result" not in answer:
                raise RuntimeError(f"{method}: {answer}")
            return answer["result"]

    def _next_message(self, deadline):
        while b"\0" not in self._unread:
            left = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._from], [], [], left)
            part = os.read(self._from, 1 << 16) if ready else b""
            if not part:
                raise RuntimeError("Chromium does not answer")
            self._unread += part
        message, _, self._unread = self._unread.partition(b"\0")
        return message


class Page:
    """A page of a `Browser`."""

    def __init__(self, browser, session):
        self._browser, self._session = browser, session

    def call(self, method, **parameters):
        """The result of a DevTools command for this page."""
        return self._browser.call(method, self._session, **parameters)

    def run(self, script):
        """The value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found["exceptionDetails"]))
        return found["result"].get("value")

    def read(self, is_ready, seconds=60):
        """The page's visible texts and its pictures' sizes, once it is ready.

        Args:
          is_ready: function of both that says so.
          seconds: after how long they are returned if it never is.
        """
        deadline = time.monotonic() + seconds
        while True:
            found = self.run(_READ)
            texts, pictures = found["texts"], found["pictures"]
            if is_ready(texts, pictures) or time.monotonic() > deadline:
                return texts, pictures
            time.sleep(0.1)
