"""A headless Chromium, driven over its DevTools pipe."""

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

# The visible text and the loaded images of a page, shadow trees included.
_READ = """
(() => {
  const texts = [], images = [];
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE && node.data.trim())
      texts.push(node.data.trim());
    if (node.nodeType === Node.ELEMENT_NODE) {
      if (["SCRIPT", "STYLE", "TEMPLATE"].includes(node.tagName)) return;
      if (!node.checkVisibility()) return;
      if (node.tagName === "IMG" && node.naturalWidth)
        images.push([node.naturalWidth, node.naturalHeight]);
    }
    if (node.shadowRoot) node.shadowRoot.childNodes.forEach(walk);
    node.childNodes.forEach(walk);
  };
  if (document.body) walk(document.body);
  return {texts, images};
})()
"""


def find_program():
    """The path of a Chromium, None if none is installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """Opens pages; used in a `with` statement."""

    def __init__(self, program, profile):
        """Starts `program`, which keeps its files in the folder `profile`."""
        ends = [*os.pipe(), *os.pipe()]
        # Chromium reads from 3 and writes to 4, so the pipes need other numbers.
        its_input, self._to, self._from, its_output = (
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends
        )
        for end in ends:
            os.close(end)
        command = ["bash", "-c", f'exec "$@" 3<&{its_input} 4>&{its_output}', "bash"]
        command += [program, *OPTIONS, "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [*command, f"--user-data-dir={profile}"],
            pass_fds=(its_input, its_output),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(its_input)
        os.close(its_output)
        self._number, self._unread = 0, b""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        os.close(self._to)
        os.close(self._from)
        self._process.terminate()
        self._process.wait(30)

    def open(self, url, width=1280, height=800):
        """Opens a page in a window of `width` x `height` pixels."""
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
        """Returns the result of a DevTools command.

        Raises:
          RuntimeError: the command failed, or Chromium has ended or does not answer.
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
            remaining = max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([self._from], [], [], remaining)
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
        """Returns the result of a DevTools command for this page."""
        return self._browser.call(method, self._session, **parameters)

    def run(self, script):
        """Returns the value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def read(self, is_ready, seconds=60):
        """Returns the page's visible texts and its images' sizes once it is ready.

        Args:
          is_ready: function of both, true when the page is ready.
          seconds: the time after which both are returned even if it is not.
        """
        deadline = time.monotonic() + seconds
        while True:
            page = self.run(_READ)
            texts, images = page["texts"], page["images"]
            if is_ready(texts, images) or time.monotonic() > deadline:
                return texts, images
            time.sleep(0.1)
