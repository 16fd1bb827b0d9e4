"""Looks at pages in a real browser: headless Chromium, driven by chromedriver's WebDriver interface.

    look.py --shots FOLDER NAME=PAGE.html ...

Each page is loaded as on a desk and on a phone, light and dark, and as on paper. In each of these nothing may be said on the
console, nothing may be loaded, nothing may stick out sideways; every chart must have a size, marks that show, ticks that do not
touch, words and a table; text must stand out from what is behind it. Screenshots of all go to FOLDER.
"""

import argparse
import base64
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

# name, width, height, colour scheme, medium
VIEWS = [
    ("light", 1280, 900, "light", "screen"),
    ("dark", 1280, 900, "dark", "screen"),
    ("phone", 390, 844, "light", "screen"),
    ("phone-dark", 390, 844, "dark", "screen"),
    ("paper", 794, 1123, "dark", "print"),
]

# Returns the faults of the page, each as a sentence.
FAULTS = r"""
const faults = [];
const wide = document.documentElement.scrollWidth, room = document.documentElement.clientWidth;
if (wide > room) {
  const out = [...document.querySelectorAll('main *, header *')].filter(e => e.getBoundingClientRect().right > room + 1 && !e.closest('.scroll, nav'));
  faults.push(`the page is ${wide} wide in a window of ${room}: ${out.slice(0, 3).map(e => e.outerHTML.slice(0, 80)).join(' | ')}`);
}
const loaded = performance.getEntriesByType('resource');
if (loaded.length) faults.push(`it loaded ${loaded.map(e => e.name)}`);
const channels = c => (c.match(/[\d.]+/g) || []).map(Number);
const light = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const contrast = (a, b) => { const [x, y] = [light(a), light(b)]; return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05); };
const behind = e => { for (; e; e = e.parentElement) { const c = channels(getComputedStyle(e).backgroundColor); if (c.length === 3 || c[3] > 0.99) return c.slice(0, 3); } return [255, 255, 255]; };
const charts = [...document.querySelectorAll('figure.chart')];
for (const chart of charts) {
  const name = chart.dataset.chart, svg = chart.querySelector('svg.plot');
  const fault = text => faults.push(`chart ${name}: ${text}`);
  if (!svg) { if (!chart.querySelector('.empty')) fault('neither a drawing nor a word why there is none'); continue; }
  const box = svg.getBoundingClientRect();
  if (box.width < 200 || box.height < 40) fault(`it is ${box.width} x ${box.height}`);
  const marks = [...svg.querySelectorAll('.mark')];
  if (!marks.length) fault('it has no marks');
  const card = behind(chart);
  for (const mark of marks) {
    const style = getComputedStyle(mark), r = mark.getBoundingClientRect();
    const paint = style.fill === 'none' ? style.stroke : style.fill;
    if (paint === 'none' || style.visibility === 'hidden' || (r.width <= 0 && r.height <= 0 && !mark.classList.contains('cloud'))) { fault(`a mark does not show: ${mark.outerHTML.slice(0, 90)}`); break; }
    if (r.left < box.left - 2 || r.right > box.right + 2 || r.top < box.top - 2 || r.bottom > box.bottom + 2) { fault(`a mark lies outside: ${mark.outerHTML.slice(0, 90)}`); break; }
    if (contrast(channels(paint), card) < 1.5) { fault(`a mark is as good as invisible: ${paint}`); break; }
  }
  const texts = [...svg.querySelectorAll('text')];
  if (texts.length < 3) fault('it has no labels');
  const boxes = texts.map(t => [t.textContent, t.getBoundingClientRect()]);
  for (const [text, r] of boxes) {
    if (/NaN|undefined|inf|null/.test(text)) fault(`a label says ${text}`);
    if (r.height < 9) fault(`the label ${text} is ${r.height.toFixed(1)} high`);
    if (r.left < box.left - 2 || r.right > box.right + 2) fault(`the label ${text} is cut off`);
  }
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
    const [a, b] = [boxes[i][1], boxes[j][1]], x = Math.min(a.right, b.right) - Math.max(a.left, b.left), y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 1 && y > 3) fault(`the labels ${boxes[i][0]} and ${boxes[j][0]} touch`);
  }
  if (!svg.getAttribute('aria-label') || !svg.querySelector('desc')?.textContent) fault('no words for those who cannot see it');
  if (!chart.querySelector('details tbody tr')) fault('no table of its numbers');
}
let seen = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || e.closest('title, desc') || !e.getClientRects().length) continue;
  const style = getComputedStyle(e), ink = channels(e.closest('svg') ? style.fill : style.color).slice(0, 3), ratio = contrast(ink, behind(e));
  const kind = `${e.tagName}.${e.className.baseVal ?? e.className} ${ink} on ${behind(e)}`;
  if (ratio < 4.5 && !seen.has(kind)) { seen.add(kind); faults.push(`text is hard to read, contrast ${ratio.toFixed(1)}: ${kind}: ${walker.currentNode.textContent.slice(0, 30)}`); }
}
const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) faults.push(`the id ${id} is there twice`);
for (const a of document.querySelectorAll('a[href^="#"]')) if (!document.getElementById(a.getAttribute('href').slice(1))) faults.push(`${a.getAttribute('href')} leads nowhere`);
return { faults, charts: charts.filter(c => c.querySelector('svg.plot .mark')).map(c => c.dataset.chart), empty: charts.filter(c => !c.querySelector('svg.plot')).map(c => c.dataset.chart), sections: document.querySelectorAll('section').length, height: document.documentElement.scrollHeight };
"""


class Browser:
    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.base, self.session = f"http://127.0.0.1:{port}", None

    def __enter__(self):
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
                     f"--user-data-dir={self.profile.name}"]
        capabilities = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
        end = time.monotonic() + 30
        while True:
            try:
                answer = self.send("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
                break
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
        self.session = answer["sessionId"]
        return self

    def __exit__(self, *_):
        if self.session:
            self.send("DELETE", f"/session/{self.session}")
        self.driver.terminate()
        self.driver.wait()
        self.profile.cleanup()

    def send(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from None

    def post(self, path, body):
        return self.send("POST", f"/session/{self.session}/{path}", body)

    def cdp(self, command, **parameters):
        return self.post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, page, view):
        """Loads the page in a view and returns what is wrong with it, its charts, and a screenshot."""
        _, width, height, scheme, medium = view
        phone = width < 600
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)
        self.cdp("Emulation.setEmulatedMedia", media=medium, features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.post("url", {"url": page.resolve().as_uri()})
        found = self.post("execute/sync", {"script": FAULTS, "args": []})
        said = self.post("se/log", {"type": "browser"})
        found["faults"] += [f"the console says: {entry['level']} {entry['message']}" for entry in said]
        clip = {"x": 0, "y": 0, "width": width, "height": min(found["height"], 16000), "scale": 1}
        shot = self.cdp("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return found, base64.b64decode(shot["data"])

    def printed(self, page):
        self.cdp("Emulation.setEmulatedMedia", media="", features=[])
        self.post("url", {"url": page.resolve().as_uri()})
        for attempt in range(3):
            try:
                return base64.b64decode(self.cdp("Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])
            except RuntimeError as error:
                # the browser gives up where the machine is too busy to answer it in time
                if attempt == 2 or "Printing failed" not in str(error):
                    raise
                time.sleep(1)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shots", type=pathlib.Path, required=True)
    arguments.add_argument("--expect", default="", help="charts that every report must have drawn, by name, with commas between")
    arguments.add_argument("pages", nargs="+", metavar="NAME=PAGE")
    options = arguments.parse_args()
    options.shots.mkdir(parents=True, exist_ok=True)
    failed = 0
    with Browser() as browser:
        for name, page in (page.split("=", 1) for page in options.pages):
            page = pathlib.Path(page)
            for view in VIEWS:
                found, shot = browser.look(page, view)
                (options.shots / f"{name}-{view[0]}.png").write_bytes(shot)
                if not name.startswith("compare"):
                    missing = [chart for chart in options.expect.split(",") if chart and chart not in found["charts"]]
                    found["faults"] += [f"chart {chart} is not drawn" for chart in missing]
                if not found["charts"] or not found["sections"]:
                    found["faults"].append("there are no charts or no sections")
                print(f"{name} {view[0]}: {len(found['charts'])} charts, {found['sections']} sections, {found['height']} high, {len(found['faults'])} faults"
                      + (f"; nothing to draw in {', '.join(found['empty'])}" if found["empty"] else ""))
                for fault in found["faults"]:
                    print(f"  {fault}", file=sys.stderr)
                failed += len(found["faults"])
            pdf = browser.printed(page)
            (options.shots / f"{name}.pdf").write_bytes(pdf)
            print(f"{name} printed: {pdf.count(b'/Type /Page') - pdf.count(b'/Type /Pages')} pages")
    print(f"screenshots are in {options.shots}")
    if failed:
        sys.exit(f"{failed} faults")


if __name__ == "__main__":
    main()
