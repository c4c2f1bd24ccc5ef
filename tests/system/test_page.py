"""The status page in a real Chromium: what an operator sees while leases come, misbehave and go.

The screenshots go to build/screenshots, for people to look at.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess

import guest
from case import DaemonCase, wait_for
from daemon import ROOT
from lab import INTERNET

TOOLS = ROOT / "build/contract"
PICTURES = ROOT / "build/screenshots"
ATTACKS = ("internet DNS by UDP", "another port of the consumer", "consumer by TCP", "spoofed source address", "fragments",
           "provider localhost by ICMP", "metadata service")
HOSTILE = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>"


class Browser:
    """A Chromium in the provider's namespace, told what to do in lines of Playwright."""

    def __init__(self, namespace, home):
        shutil.copy(ROOT / "tests/browser/driver.mjs", TOOLS)
        self._process = namespace.start(
            "node", TOOLS / "driver.mjs", shutil.which("chromium"), TOOLS / "node_modules/axe-core/axe.min.js",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "HOME": str(home), "TMPDIR": str(home)})

    def run(self, code, **values):
        """Run the body of an async function; @values are its constants. Return: its value"""
        constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
        self._process.stdin.write(json.dumps(constants + code) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError("the browser is gone")
        answer = json.loads(line)
        if "error" in answer:
            raise AssertionError(f"{code}\n{answer['error']}")
        return answer["value"]

    def text(self, selector):
        """What a part of the page says."""
        return self.run("return page.locator(selector).innerText()", selector=selector)

    def wait(self, selector, text, limit=30000):
        """Wait until a part of the page holds a text."""
        self.run("await page.locator(selector).filter({hasText: text}).first().waitFor({timeout: limit})",
                 selector=selector, text=text, limit=limit)

    def picture(self, name):
        """Keep how the page looks."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.run("await page.screenshot({path, fullPage: true})", path=str(PICTURES / f"{name}.png"))

    def close(self):
        """End it."""
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


class StatusPage(DaemonCase):
    """One visit, in the order of the tests."""

    @classmethod
    def setUpClass(cls):
        if not (TOOLS / "node_modules/playwright-core").is_dir() or not shutil.which("chromium"):
            raise cls.skipTest(cls, "run make contract (needs nodejs and npm), and install chromium")
        super().setUpClass()
        home = pathlib.Path("/run/browser")
        home.mkdir(exist_ok=True)
        cls.page = Browser(cls.lab.prov, home)
        cls.addClassCleanup(cls.page.close)
        cls.url = f"http://127.0.0.1:{cls.daemon.port}/"
        cls.token = (cls.daemon.data / "token").read_text(encoding="ascii").strip()

    def _assert_accessible(self):
        self.assertEqual([], self.page.run("return axe()"))

    def _connect(self, token):
        self.page.run("await page.fill('#token', token); await page.click('#token-form button')", token=token)

    def test_01_it_asks_for_a_token_and_refuses_a_wrong_one(self):
        answer = self.page.run("return (await page.goto(url)).headers()", url=self.url)
        self.assertIn("default-src 'self'", answer["content-security-policy"])
        self.page.wait("#connection", "a token is needed")
        self.assertEqual("token", self.page.run("return page.evaluate(() => document.activeElement.id)"))
        self._assert_accessible()
        self.page.picture("token")
        self._connect("omt_" + "A" * 43)
        self.page.wait("#token-error", "does not take this token")
        self.assertTrue(self.page.run("return page.locator('#overview').isHidden()"))
        self.assertIsNone(self.page.run("return page.evaluate(() => sessionStorage.getItem('omertad-token'))"))

    def test_02_an_empty_node_says_what_to_do(self):
        self._connect(self.token)
        self.page.wait("#leases-empty", "No lease is alive")
        self.page.wait("#feed-empty", "Nothing yet")
        self.assertIn("0 of 8", self.page.text("#capacity"))
        self.assertIn("tcg", self.page.text("#node"))
        self.assertEqual("ready", self.page.text("#node-health"))
        self._assert_accessible()
        self.page.picture("empty")
        self.assertEqual("", self.page.run("return new URL(page.url()).search"), "no token in the address")

    def _drain(self, draining):
        etag = self.client.request("GET", "/v1/node/drain").headers["ETag"]
        answer = self.client.request("PUT", "/v1/node/drain", {"draining": draining}, {"If-Match": etag})
        self.assertEqual(200, answer.status)

    def test_02_what_keeps_it_from_leasing_is_told(self):
        self._drain(True)
        self.addCleanup(self.page.wait, "#node-health", "ready")
        self.addCleanup(self._drain, False)
        self.page.wait("#node-health", "draining")
        self._assert_accessible()

    def test_03_a_lease_comes_alive_by_itself(self):
        type(self).lease_of_all = self.lab.lease(self.daemon, 0, labels={"job": "render"}, ttl_s=7200)
        self.page.wait("#leases tbody tr", "micro")
        type(self).shell = None
        self.lease_of_all.wait_tunnel()
        self.page.wait("#leases tbody tr", "established")
        row = self.page.text("#leases tbody tr")
        for words in ("running", "Filtered", "every frame is checked", "job=render", "1 h 59 min", "198.51.100.2"):
            self.assertIn(words, row)
        self.page.wait("#leases .traffic", "bit/s")

    def test_04_violations_are_told_in_words_as_they_come(self):
        shell = self.lease_of_all.shell()
        self.addCleanup(shell.close)
        type(self).said = f"says {HOSTILE}"
        tries = [attack for attack in self.lab.attacks(self.lease_of_all.consumer) if attack.name in ATTACKS]
        shell.run(f"echo '{self.said}' > /dev/console")
        guest.drop_firewall(shell, guest.detour_targets(tries))
        self.assertEqual([], guest.run_attacks(shell, tries))
        self.page.wait("#feed li", f"tried to reach {INTERNET}:53 (UDP): dropped")
        self.page.wait("#feed li", "used an address that is not its own")
        self.page.wait("#feed li", "sent a fragment")
        wait_for(lambda: self.page.run("return page.locator('#leases td.bad').count()"), 20, "the count stands out")
        self._assert_accessible()
        self.page.picture("violation")

    def test_05_one_lease_in_detail(self):
        self.page.run("await page.click('#leases a')")
        self.page.wait("#detail-title", self.lease_of_all.id)
        self.page.wait("#timeline", "running")
        self.page.wait("#timeline", "tunnel established")
        self.page.wait("#counters", "destination not allowed")
        self.page.wait("#peers", "198.51.100.2:51900")
        self.page.wait("#policy", "198.51.100.2:51900")
        self.page.wait("#policy", "is dropped and told")
        self.page.wait("#policy", "1 of 1")
        self.page.wait("#flows tbody tr", "198.51.100.2:51900")
        self.assertRegex(self.page.text("#flows tbody tr"), r"[1-9]\d* packets, [\d,]+ B\s+[1-9]\d* packets")
        self.page.wait("#console", self.said)
        self.assertEqual(0, self.page.run("return page.locator('#console *').count()"))
        self.assertEqual("detail-title", self.page.run("return page.evaluate(() => document.activeElement.id)"))
        self._assert_accessible()
        self.page.picture("detail")
        evidence = self.page.run("""const [file] = await Promise.all([page.waitForEvent('download'),
            page.click('[data-evidence]')]); return [file.suggestedFilename(), await file.path()]""")
        self.assertRegex(evidence[0], r"^violation-[0-9a-f-]{36}\.pcapng$")
        self.assertEqual(b"\n\r\r\n", pathlib.Path(evidence[1]).read_bytes()[:4])

    def test_05_what_of_policy_and_flows_cannot_be_had_says_why(self):
        self.page.run("""const problem = (route) => route.fulfill({status: 409, contentType: 'application/problem+json',
            body: JSON.stringify({title: 'Conflict', detail: hostile})});
            await page.route('**/policy', problem);
            await page.route('**/flows', (route) => route.fulfill({contentType: 'application/json', body: '{"items": []}'}));""",
                      hostile=HOSTILE)
        self.page.wait("#policy-empty", HOSTILE)
        self.page.wait("#flows-empty", "None: the machine has sent nothing")
        self.assertTrue(self.page.run("return page.locator('#policy').isHidden()"))
        self._assert_accessible()
        self.page.run("await page.unrouteAll({behavior: 'ignoreErrors'})")
        self.page.wait("#policy", "198.51.100.2:51900")

    def test_06_dark_and_narrow(self):
        self.page.run("await page.emulateMedia({colorScheme: 'dark'})")
        self._assert_accessible()
        self.page.picture("detail-dark")
        self.page.run("await page.goto(url + '#/'); await page.locator('#leases tbody tr').waitFor()", url=self.url)
        self._assert_accessible()
        self.page.picture("dark")
        self.page.run("await page.setViewportSize({width: 390, height: 844})")
        wide = self.page.run("return page.evaluate(() => document.documentElement.scrollWidth)")
        self.assertLessEqual(wide, 390, "no sideways scrolling")
        self.page.picture("narrow-dark")
        self.page.run("await page.emulateMedia({colorScheme: 'light'})")
        self._assert_accessible()
        self.page.picture("narrow")
        self.page.run("await page.setViewportSize({width: 1360, height: 900})")

    def test_07_the_keyboard_does_it_too_and_release_asks_first(self):
        self.page.run("""await page.focus('#leases a'); await page.keyboard.press('Enter');
            await page.locator('#release').waitFor(); await page.focus('#release'); await page.keyboard.press('Enter');
            await page.locator('#confirm[open]').waitFor()""")
        self._assert_accessible()
        self.page.picture("confirm")
        self.page.run("await page.keyboard.press('Escape')")
        self.assertEqual("running", self.lease_of_all.read()["state"])
        self.page.run("await page.click('#release'); await page.click('#confirm .danger')")
        self.page.wait("#detail-state", "was released")
        self.assertEqual("released", self.lease_of_all.wait_end()["reason"])
        ended = self.client.request("GET", f"{self.lease_of_all.path}/flows")
        self.page.wait("#flows-empty", ended.json["detail"])
        self.assertTrue(self.page.run("return page.locator('#flows').isHidden()"))
        self._assert_accessible()
        self.page.picture("detail-ended")
        self.page.run("await page.goto(url + '#/'); await page.click('[data-show=ended]')", url=self.url)
        self.page.wait("#leases tbody tr", "was released")
        self.page.wait("#feed li", "was released")

    def test_08_it_survives_the_daemon_s_restart(self):
        self.daemon.stop(signal.SIGTERM)
        self.page.wait("#connection", "does not answer")
        self.page.picture("disconnected")
        self.daemon.start()
        self.page.run("await page.locator('#connection[data-state=connected]').waitFor({timeout: 30000})")
        self.page.run("await page.click('[data-show=alive]')")
        self.page.wait("#leases-empty", "No lease is alive")

    def test_09_a_thousand_leases_and_hostile_names_stay_bounded_and_text(self):
        lease = self.client.items("/v1/leases")[0]
        self.page.run("""
            const id = (n) => '01a214d2-8e7b-704d-9d6f-' + String(n).padStart(12, '0');
            const leases = [...Array(1000).keys()].map((n) => ({...lease, id: id(n), state: 'running', termination: null,
              image: {name: hostile}, labels: {[hostile]: hostile}, consumer: {...lease.consumer, endpoint: hostile}}));
            const violations = [...Array(10000).keys()].map((n) => ({id: id(n), lease_id: id(n), code: hostile, count: n + 1,
              verdict: n % 2 ? 'dropped' : 'terminated', source: 'filter', destination_ip: hostile, destination_port: 1,
              ip_protocol: 17, last_seen_at: '2026-01-01T00:00:00.000Z', evidence: null}));
            const ends = [{lease_id: id(1), reason: hostile, detail: hostile, stopped_at: '2026-01-01T00:00:00.000Z'}];
            const json = (route, body) => route.fulfill({contentType: 'application/json', body: JSON.stringify(body)});
            await page.route('**/v1/leases?*', (route) => json(route,
              {items: route.request().url().includes('running') ? leases : [], next_cursor: null}));
            await page.route('**/v1/violations?*', (route) => json(route, {items: violations, next_cursor: null}));
            await page.route('**/v1/terminations?*', (route) => json(route, {items: ends, next_cursor: null}));""",
                      lease=lease, hostile=HOSTILE)
        self.page.wait("#leases-more", "Show all 1000")
        self.assertEqual(50, self.page.run("return page.locator('#leases tbody tr').count()"))
        self.assertLessEqual(self.page.run("return page.locator('#feed li').count()"), 40)
        self.assertIn("<img src=x", self.page.text("#leases tbody tr:first-child"))
        self.page.picture("thousand")
        self.page.run("await page.click('#leases-more')")
        self.assertEqual(1000, self.page.run("return page.locator('#leases tbody tr').count()"))
        self.assertEqual([0, False], self.page.run(
            "return page.evaluate(() => [document.querySelectorAll('main img, main script').length, 'pwned' in window])"))
        self.page.run("await page.unrouteAll({behavior: 'ignoreErrors'})")

    def test_10_nothing_came_from_elsewhere_and_nothing_went_wrong(self):
        seen = self.page.run("return seen")
        self.assertEqual([], [url for url in seen["requests"] if not url.startswith((self.url, f"blob:{self.url}"))])
        self.assertEqual([], [url for url in seen["requests"] if self.token in url])
        self.assertEqual([], seen["errors"])

    def test_11_the_token_is_forgotten_when_asked(self):
        self.page.run("await page.click('#forget')")
        self.page.wait("#connection", "a token is needed")
        self.assertEqual(0, self.page.run("return page.evaluate(() => sessionStorage.length)"))
