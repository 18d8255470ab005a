"""serve: `mlflow models serve` on a version whose files were compared with the registry before."""

import os
from typing import NoReturn

from zreward_core.dvc import environment, program
from zreward_core.store import WHOLE, checked, connect, find_version, store_errors


def serve(uri: str, host: str, port: int) -> NoReturn:
    """Replace this process by a server of a version.

    MLflow executes a version's model file when it loads it, so its own commands cannot check it.

    Args:
        uri: URI of the version.
        host: address to listen on.
        port: port to listen on.

    Raises:
        UserError: there is no such version, or its files differ from the registered ones.
    """
    client = connect(create=False)
    with store_errors():
        folder = checked(client, find_version(client, uri), WHOLE)
    variables = {
        **environment(),
        "MLFLOW_TRACKING_URI": client.tracking_uri,
        "PYTHONDONTWRITEBYTECODE": "1",  # the folder stays as registered
    }
    command = ["mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local"]
    command += ["--host", host, "--port", str(port)]
    os.execve(program("mlflow"), command, variables)
