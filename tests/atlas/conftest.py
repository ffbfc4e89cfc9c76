"""One site for all tests, with results and, where Sphinx is installed, documentation; one browser a worker."""

import shutil

import pytest
from filelock import FileLock

from frugal.atlas.build import build
from tests.atlas import samples


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id):
    """The folder of the built site, shared by all workers."""
    mine = tmp_path_factory.getbasetemp()
    shared = mine if worker_id == "master" else mine.parent
    out = shared / "atlas"
    with FileLock(shared / "atlas.lock"):
        if not out.exists():
            build(out, samples.write(shared / "atlas-results"))
    return out


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium without network, that keeps its console."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield started
    started.quit()
