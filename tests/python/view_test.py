"""The page of plait view in a headless Chromium: what it shows, how it is moved, that nothing in a file is code.

Without Chromium or playwright (scripts/setup --browser installs them) it says so and ends with 77, which ctest counts as skipped.
"""

import json
import os
import pathlib
import sys
import unittest

import command

SKIPPED = 77
CHROMIUM = "/usr/bin/chromium"
try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

# Frames that the page draws in two seconds while `act` changes it before each; what painting one takes.
COUNT_FRAMES = """([act, milliseconds]) => new Promise((done) => {
  const {page} = plaitView, change = eval(act), paint = page.painter.paint.bind(page.painter);
  const before = page.frames, begin = performance.now();
  let turns = 0, painting = 0;
  page.painter.paint = (scene) => { const from = performance.now(); paint(scene); painting += performance.now() - from; };
  const turn = () => {
    change(turns++);
    if (performance.now() - begin < milliseconds) return requestAnimationFrame(turn);
    delete page.painter.paint;
    const frames = page.frames - before;
    done({frames, seconds: (performance.now() - begin) / 1000, painting: painting / Math.max(frames, 1)});
  };
  requestAnimationFrame(turn);
})"""


class View(command.CommandTest):
    @classmethod
    def setUpClass(cls) -> None:
        cls.playwright = sync_playwright().start()
        cls.browser = cls.playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

    @classmethod
    def tearDownClass(cls) -> None:
        cls.browser.close()
        cls.playwright.stop()

    def made(self, *arguments: str) -> None:
        result = self.plait(*arguments)
        self.assertEqual(result.returncode, 0, result.stderr)

    def opened(self, *files: str, dark: bool = False):
        """The page of these files; what it logs or throws fails the test at its end."""
        self.made("view", *files, "--out", "page.html")
        page = self.browser.new_page(viewport={"width": 1400, "height": 800}, color_scheme="dark" if dark else "light")
        page.set_default_timeout(120_000)
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if not request.url.startswith(("file:", "data:")) else None)
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        self.addCleanup(page.close)
        self.addCleanup(lambda: self.assertEqual(problems, []))
        page.goto((self.folder / "page.html").as_uri())
        return page

    def state(self, page) -> dict:
        return page.evaluate("plaitView.state()")

    def place(self, page, label: str, file: int = 0) -> dict:
        return page.evaluate("([label, file]) => plaitView.placeOf(label, file)", [label, file])

    def hovered(self, page, label: str, file: int = 0) -> str:
        place = self.place(page, label, file)
        page.mouse.move(place["x"], place["y"])
        page.wait_for_selector("#tip:not([hidden])")
        return page.inner_text("#tip")

    def search(self, page, text: str) -> None:
        page.keyboard.press("/")
        self.assertEqual(page.evaluate("document.activeElement.id"), "search")
        page.keyboard.type(text)
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")

    def dualpipe_v(self, **options):
        return self.opened("dualpipe-v", "--ranks", "4", "--microbatches", "10", **options)

    def test_hover_names_the_action_its_times_and_what_it_waited_for(self) -> None:
        page = self.dualpipe_v()
        self.assertEqual(page.evaluate("plaitView.counts()"), [4 * 2 * 10 * 2 + page.evaluate(
            "[...plaitView.page.models[0].type].filter((type) => plaitView.page.models[0].types[type] === 'W').length")])
        text = self.hovered(page, "7B3")
        # plait show: rank 0 runs f7 B3== at 17; F takes one unit, B two.
        for needed in ("7B3", "rank 0, stage 7, micro-batch 3, in pair 0", "18 to 20, took 2 units",
                       "waited for its lane: 0F7 ended at 18", "activations alive"):
            self.assertIn(needed, text)
        # Rank 1 cannot begin before rank 0 has made its input.
        self.assertIn("waited for 0F0 of rank 0, which ended at 1", self.hovered(page, "1F0"))
        self.assertIn("63 units · 4 ranks · 10 micro-batches · 4.8 % idle at worst · peak 9", page.inner_text("#files"))

    def test_zbv_has_its_inputs_and_weights(self) -> None:
        page = self.opened("zbv", "--ranks", "4", "--microbatches", "8")
        self.assertIn("stage 3, micro-batch 5", self.hovered(page, "3W5"))
        legend = page.inner_text("#legend")
        self.assertIn("I backward for inputs", legend)
        self.assertNotIn("a pair", legend)

    def test_click_follows_a_microbatch(self) -> None:
        page = self.dualpipe_v()
        place = self.place(page, "7B3")
        page.mouse.click(place["x"], place["y"])
        self.assertEqual((self.state(page)["followed"], self.state(page)["selected"]["label"]), (3, "7B3"))
        page.keyboard.press("n")
        self.assertEqual(self.state(page)["selected"]["label"], "6B3")
        page.keyboard.press("p")
        page.keyboard.press("p")
        self.assertEqual(self.state(page)["selected"]["label"], "7F3")
        page.keyboard.press("Escape")
        self.assertEqual((self.state(page)["followed"], self.state(page)["selected"]), (-1, None))

    def test_search_finds_and_centres(self) -> None:
        page = self.dualpipe_v()
        for _ in range(9):
            page.keyboard.press("+")
        self.search(page, "7b3")
        state = self.state(page)
        self.assertEqual(state["selected"]["label"], "7B3")
        self.assertAlmostEqual(state["start"] + state["visible"] / 2, 19, delta=0.01)
        self.search(page, "r3")
        self.assertIn("rank 3", page.inner_text("#status"))
        self.search(page, "99F1")
        self.assertIn("99F1 is not here", page.inner_text("#status"))
        self.search(page, "what")
        self.assertIn("found what", page.inner_text("#status"))
        # The eighth micro-batch's backward on stage 7 is whole, that of the last is split.
        self.search(page, "7B9")
        self.assertIn(self.state(page)["selected"]["label"], ("7B9", "7I9"))

    def test_keyboard(self) -> None:
        page = self.dualpipe_v()
        whole = self.state(page)
        page.keyboard.press("+")
        page.keyboard.press("+")
        near = self.state(page)
        self.assertAlmostEqual(near["pixel"], whole["pixel"] / 2.25)
        page.keyboard.press("ArrowRight")
        self.assertAlmostEqual(self.state(page)["start"], near["start"] + 80 * near["pixel"])
        page.keyboard.press("ArrowLeft")
        self.assertAlmostEqual(self.state(page)["start"], near["start"])
        page.keyboard.press("-")
        self.assertAlmostEqual(self.state(page)["pixel"], whole["pixel"] / 1.5)
        page.keyboard.press("]")
        self.assertGreater(self.state(page)["laneHeight"], whole["laneHeight"])
        page.keyboard.press("0")
        for key in ("start", "pixel", "scroll", "laneHeight"):
            self.assertEqual(self.state(page)[key], whole[key], key)
        page.keyboard.press("?")
        self.assertTrue(page.evaluate("document.getElementById('keys').open"))
        page.keyboard.press("?")
        self.assertFalse(page.evaluate("document.getElementById('keys').open"))

    def test_wheel_and_drag(self) -> None:
        page = self.dualpipe_v()
        whole = self.state(page)
        place = self.place(page, "7B3")
        page.mouse.move(place["x"], place["y"])
        page.mouse.wheel(0, -500)
        page.wait_for_function("pixel => plaitView.state().pixel < pixel", arg=whole["pixel"])
        self.assertAlmostEqual(self.place(page, "7B3")["x"], place["x"], delta=1.5)
        near = self.state(page)
        page.mouse.down()
        page.mouse.move(place["x"] - 100, place["y"], steps=4)
        page.mouse.up()
        self.assertAlmostEqual(self.state(page)["start"], near["start"] + 100 * near["pixel"], delta=near["pixel"])
        self.assertEqual(self.state(page)["followed"], -1)

    def test_dark_and_light(self) -> None:
        page = self.dualpipe_v(dark=True)
        background = "getComputedStyle(document.body).backgroundColor"
        self.assertEqual(self.state(page)["theme"], "dark")
        dark = page.evaluate(background)
        page.keyboard.press("t")
        self.assertEqual(self.state(page)["theme"], "light")
        self.assertNotEqual(page.evaluate(background), dark)
        page.click("#theme")
        self.assertEqual(page.evaluate(background), dark)

    def test_memory_is_that_of_simulate(self) -> None:
        for schedule in ("1f1b", "zbv", "dualpipe-v", "dualpipe", "hanayo"):
            shape = ("--ranks", "4", "--microbatches", "8")
            page = self.opened(schedule, *shape)
            priced = json.loads(self.plait("simulate", schedule, *shape, "--json").stdout)
            self.assertEqual(page.evaluate("plaitView.page.models[0].memory.map((one) => one.peak)"), priced["peak_activations"], schedule)
            idle = page.evaluate("(({span, busy}) => busy.map((one) => span - one))(plaitView.page.models[0])")
            self.assertEqual(idle, priced["idle_ns"], schedule)

    def test_planned_above_measured(self) -> None:
        self.made("simulate", "1f1b", "--ranks", "2", "--microbatches", "3", "--f", "10", "--i", "10", "--w", "10", "--timeline", "planned.json")
        trace = json.loads((self.folder / "planned.json").read_text())
        self.change(trace, "1B1", end=20)                         # twice as long
        self.change(trace, "0F1", rename="0F2", renamed="0F1")    # F0 F2 B0 F1 …: two must move
        trace["traceEvents"] = [event for event in trace["traceEvents"] if event["name"] != "1F2"]
        (self.folder / "measured.json").write_text(json.dumps(trace))
        page = self.opened("planned.json", "measured.json")
        self.assertEqual(page.evaluate("plaitView.differences()"), {"onlyA": 1, "onlyB": 0, "order": 2, "longer": 1, "shorter": 0})
        self.assertEqual(page.inner_text("#status"), "1 only in A, 2 in another order, 1 longer in B")
        self.assertIn("2.00 times as long here", self.hovered(page, "1B1", 1))
        state = self.state(page)
        self.assertEqual((state["arrangement"], state["stretched"]), ("above", False))
        above, below = self.place(page, "1F1", 0), self.place(page, "1F1", 1)
        self.assertAlmostEqual(above["x"], below["x"], delta=0.01)
        self.assertLess(above["y"], below["y"])
        self.assertLess(below["y"] - above["y"], 150)
        page.keyboard.press("d")
        self.assertIn("difference 1 of 4", page.inner_text("#status"))
        page.keyboard.press("v")
        self.assertEqual(self.state(page)["arrangement"], "beside")

    def change(self, trace: dict, name: str, end: int = 0, rename: str = "", renamed: str = "") -> None:
        events = {event["name"]: event for event in trace["traceEvents"] if event["ph"] == "X"}
        event = events[name]
        if rename:
            event["name"], events[rename]["name"] = rename, renamed
        if end:
            event["args"]["end_ns"] += end
            event["dur"] += end / 1000

    def test_two_schedules_side_by_side(self) -> None:
        page = self.opened("1f1b", "zbv", "--ranks", "4", "--microbatches", "8")
        state = self.state(page)
        self.assertEqual((state["arrangement"], state["marks"]), ("beside", False))
        left, right = self.place(page, "0F0", 0), self.place(page, "0F0", 1)
        self.assertAlmostEqual(left["y"], right["y"], delta=0.01)
        self.assertGreater(right["x"] - left["x"], 500)
        page.keyboard.press("m")
        self.assertIn("only in B", page.inner_text("#status"))

    def test_a_plan_in_units_is_stretched_to_what_was_measured(self) -> None:
        self.made("simulate", "zbv", "--ranks", "2", "--microbatches", "4", "--f", "1000000", "--i", "1000000", "--w", "1000000",
                  "--timeline", "measured.json")
        (self.folder / "plan.csv").write_text(self.plait("make", "zbv", "--ranks", "2", "--microbatches", "4").stdout)
        page = self.opened("plan.csv", "measured.json")
        self.assertTrue(self.state(page)["stretched"])
        self.assertEqual(page.inner_text("#status"), "no differences")
        page.keyboard.press("s")
        self.assertFalse(self.state(page)["stretched"])

    def test_names_are_text(self) -> None:
        name = "<script>alert(1)<\u2044script>.json"  # a slash of its own kind: the other one parts folders
        self.made("simulate", "1f1b", "--ranks", "2", "--microbatches", "2", "--timeline", name)
        (self.folder / "<script>alert(1)<").mkdir()
        closing = "<script>alert(1)</script>.json"
        (self.folder / closing).write_text((self.folder / name).read_text())
        (self.folder / "{{DATA}}<!--.json").write_text((self.folder / name).read_text())
        for file in (name, closing, "{{DATA}}<!--.json"):
            page = self.opened(file)
            self.assertIn(file, page.inner_text("#files"))
            self.assertIn(file, page.title())
            self.assertEqual(page.evaluate("plaitView.counts()"), [8])
        self.assertNotIn("alert(1)</script>", (self.folder / "page.html").read_text())

    def test_any_bytes_make_a_name(self) -> None:
        self.made("simulate", "1f1b", "--ranks", "2", "--microbatches", "2", "--timeline", "t.json")
        odd = os.fsdecode(b"\xff\xfe\"'.json")
        (self.folder / "t.json").rename(self.folder / odd)
        self.assertIn("\ufffd", self.opened(odd).inner_text("#files"))

    def test_a_hundred_thousand_actions(self) -> None:
        self.made("simulate", "1f1b", "--ranks", "64", "--microbatches", "800", "--timeline", "large.json")
        page = self.opened("large.json")
        self.assertEqual(page.evaluate("plaitView.counts()"), [64 * 800 * 2])
        middle = "((k) => plaitView.page.zoom(k % 60 < 30 ? 0.9 : 1 / 0.9, 600))"
        moves = {
            "all in sight, up and down": "((k) => plaitView.page.pan(0, k % 40 < 20 ? 20 : -20))",
            "zoom in and out": middle,
            "pan, 10 times nearer": "((k) => plaitView.page.pan(k % 80 < 40 ? 30 : -30))",
            "pan, 80 times nearer": "((k) => plaitView.page.pan(k % 80 < 40 ? 30 : -30))",
        }
        nothing = page.evaluate(COUNT_FRAMES.replace("page.frames - before", "turns"), ["((k) => 0)", 1000])
        print(f"\n100,000 actions, {os.cpu_count()} cores, load {os.getloadavg()[0]:.0f}: "
              f"{nothing['frames'] / nothing['seconds']:.0f} frames/s with nothing drawn", file=sys.stderr)
        for what, act in moves.items():
            page.evaluate("plaitView.page.fit()")
            if "nearer" in what:
                page.evaluate(f"plaitView.page.zoom(1 / {what.split()[1]}, 600)")
            busy = self.busy_seconds()
            counted = page.evaluate(COUNT_FRAMES, [act, 2000])
            busy = self.busy_seconds() - busy
            print(f"  {what}: {counted['frames'] / counted['seconds']:.1f} frames/s, {counted['painting']:.1f} ms a frame to paint, "
                  f"{1000 * busy / max(counted['frames'], 1):.1f} ms of CPU, all of the browser", file=sys.stderr)
            self.assertGreater(counted["frames"], 0)
            # Of what is in sight no more than a few boxes for each pixel of each lane in sight.
            self.assertLess(self.state(page)["drawn"], 64 * 1300)
        self.search(page, "40B700")
        state = self.state(page)
        self.assertEqual(state["selected"]["label"], "40B700")
        self.assertTrue(page.evaluate("plaitView.page.isInSight(0, plaitView.page.state.selected.event)"))

    def busy_seconds(self) -> float:
        session = self.browser.new_browser_cdp_session()
        processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
        session.detach()
        return sum(one["cpuTime"] for one in processes)


class WrongInput(command.CommandTest):
    def refused(self, code: int, needed: str, *arguments: str) -> None:
        result = self.plait("view", *arguments)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        self.assertIn(needed, result.stderr)
        self.assertFalse((self.folder / "page.html").exists())

    def test_each_has_one_clear_error(self) -> None:
        out = ("--out", "page.html")
        (self.folder / "chrome.json").write_text('{"traceEvents": [{"ph": "X"}]}')
        (self.folder / "array.json").write_text('[{"ph": "X"}]')
        (self.folder / "new.json").write_text('{"plait": {"format": "timeline", "version": 2}, "traceEvents": []}')
        self.refused(2, "--out is required", "1f1b")
        self.refused(2, "a schedule by name needs --ranks", "1f1b", *out)
        self.refused(2, "chrome.json: found JSON without the key plait, needed a timeline of plait", "chrome.json", *out)
        self.refused(2, "array.json: found an array, needed a timeline of plait", "array.json", *out)
        self.refused(2, "new.json:/plait/version: the timeline's version is 2, this program reads 1", "new.json", *out)
        self.refused(2, "is a folder", ".", *out)
        self.refused(2, "files", "a", "b", "c", *out)
        self.refused(1, "the schedule breaks a rule", str(command.ROOT / "examples/hangs.csv"), *out)
        self.refused(1, "absent/page.html", "1f1b", "--ranks", "2", "--microbatches", "2", "--out", "absent/page.html")
        self.refused(2, "the page would replace the file that it shows", "chrome.json", "--out", "./chrome.json")


if __name__ == "__main__":
    lacking = [what for what, there in ((CHROMIUM, pathlib.Path(CHROMIUM).exists()), ("Python's playwright", sync_playwright)) if not there]
    if lacking:
        print(f"view_test: {' and '.join(lacking)} is missing (scripts/setup --browser): the page was not opened, only errors were tested")
        result = unittest.main(argv=[sys.argv[0], "WrongInput"], exit=False).result
        sys.exit(SKIPPED if result.wasSuccessful() else 1)
    unittest.main()
