"""Settings of every Django contestant: what its module put into the environment."""

import json
import os

globals().update(json.loads(os.environ["BENCHMARK_SETTINGS"]))
