"""Is there a network?"""

import threading
import urllib.error
import urllib.request

REACH_TIMEOUT = 5.0  # seconds to find out whether an address answers


def reachable(url: str) -> bool:
    """Whether an address answers within a few seconds, even if the name server does not."""
    answers: list[bool] = []
    probe = threading.Thread(target=lambda: answers.append(_answers(url)), daemon=True)
    probe.start()
    probe.join(REACH_TIMEOUT)
    return any(answers)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=REACH_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        return error.code < 500  # it answered, if only to say that there is no such page
    except OSError:
        return False
    return True
