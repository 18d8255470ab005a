"""Addresses that `zreward serve` cannot listen on; no model is loaded."""

import socket

import pytest
from typer.testing import CliRunner

from zreward_core.cli import app
from zreward_core.commands.serving.serve import serve
from zreward_core.config import UserError


def test_a_port_in_use_is_named_before_the_model_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"port {port} of '127.0.0.1' \(Address already in use"
        ):
            serve("nowhere", "127.0.0.1", port, max_waiting=256, batch_size=2)


@pytest.mark.parametrize("host", ["999.1.1.1", "192.0.2.1", "::ffff:999", "a..b"])
def test_a_host_that_is_not_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(UserError, match=r"cannot listen on port 5001 of .*--host"):
        serve("nowhere", host, 5001, max_waiting=256, batch_size=2)


@pytest.mark.parametrize("token", ["", " ", "two words", "schlüssel", "line\n"])
def test_a_token_that_no_header_can_have_is_refused(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one, as of a secret that is not set, would open the server to everybody."""
    with pytest.raises(UserError, match="--token"):
        serve("nowhere", "127.0.0.1", 5001, token=token, max_waiting=256, batch_size=2)
    monkeypatch.setenv("ZREWARD_TOKEN", token)
    done = CliRunner().invoke(app, ["serve", "nowhere"])
    assert isinstance(done.exception, UserError) and "--token" in str(done.exception)


@pytest.mark.parametrize(
    "options",
    [["serve", "x", "--port", "99999999"], ["serve", "x", "--port", "-1"]]
    + [["ui", f"--{name}-port", "70000"] for name in ("dagster", "mlflow")],
)
def test_ports_have_16_bits(options: list[str]) -> None:
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 2 and "port" in done.output
