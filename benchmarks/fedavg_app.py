"""Stock FedAvg with clients that compute nothing: what Flower itself takes for a round.

`benchmarks.superlink` hands a copy of this module, which imports nothing of ours, to a SuperLink as an app.
"""

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

server = ServerApp()
client = ClientApp()


@server.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds, and write when each of them was over, the start first."""
    config = context.run_config
    times: list[float] = []

    def note(number: int, arrays: ArrayRecord) -> None:
        times.append(time.monotonic())

    strategy = FedAvg(min_available_nodes=int(config["clients"]))
    strategy.start(
        grid,
        ArrayRecord([np.zeros(int(config["dimension"]))]),
        num_rounds=int(config["rounds"]),
        evaluate_fn=note,
    )
    Path(str(config["out"])).write_text(json.dumps(times), encoding="utf-8")


@client.train()
def train(message: Message, context: Context) -> Message:
    """Send the model back as it came."""
    content = {"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})}
    return Message(RecordDict(content), reply_to=message)


@client.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Measure nothing."""
    return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1})}), reply_to=message)
