"""Paho Python against a broker: `checks.py PORT VERSION PREFIX`, VERSION one of 3.1, 3.1.1, 5.0.

Prints a line a check and ends with 1 if one failed. PREFIX keeps topics and client ids apart from other runs.
"""

import sys
import traceback

import every_version
import version5
from peer import Broker, Failed


def holds(check, broker):
    """Runs one check, says how it went."""
    name = check.__name__.replace("_", " ")
    try:
        check(broker)
    except Failed as failure:
        print(f"FAILED {name}: {failure}", flush=True)
        return False
    except Exception:
        print(f"FAILED {name}:\n{traceback.format_exc()}", flush=True)
        return False
    finally:
        broker.close()
    print(f"ok     {name}", flush=True)
    return True


def main():
    port, version, prefix = sys.argv[1:]
    checks = every_version.CHECKS + (version5.CHECKS if version == "5.0" else [])
    passed = [holds(check, Broker(int(port), version, f"{prefix}{number}")) for number, check in enumerate(checks)]
    print(f"{sum(passed)} of {len(checks)} checks hold with Paho Python, MQTT {version}")
    return 0 if all(passed) else 1


sys.exit(main())
