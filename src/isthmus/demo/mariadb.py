"""A lab host becomes a database server: Debian's MariaDB with Bookinfo's table."""

import shutil
from dataclasses import dataclass

from isthmus.lab.host import Host, Process
from isthmus.lab.namespaces import SYSTEM_PATH
from isthmus.lab.records import LabError

DATA = "/var/lib/mysql"
SOCKET = "/run/mysqld/mysqld.sock"
# Not /tmp: lab hosts share it, and their process ids, of which temporary names are made, repeat.
SCRATCH = "/run/mysqld"
USER, PASSWORD = "ratings", "password"
START_S = 30
TOOLS = {
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "mariadb": "mariadb-client-core",
    "my_print_defaults": "mariadb-client-core",
}
# Bookinfo's own table and rows.
SCHEMA = f"""
CREATE DATABASE test;
CREATE TABLE test.ratings (ReviewID INT NOT NULL, Rating INT, PRIMARY KEY (ReviewID));
INSERT INTO test.ratings (ReviewID, Rating) VALUES (1, 5), (2, 4);
CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';
GRANT SELECT ON test.* TO '{USER}'@'%';
"""
# mariadbd refuses to be root, and this package set makes no user for it.
AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


@dataclass(frozen=True, slots=True)
class MariaDB:
    """A running database server on a host."""

    host: Host
    process: Process

    def sql(self, text: str) -> str:
        """Run SQL as the database's administrator on the host itself; rows come back tab-separated."""
        return self.host.run(
            ["mariadb", "--no-defaults", f"--socket={SOCKET}", "-uroot", "-N", "-B"], text=text
        ).stdout

    def remove(self) -> None:
        """Stop the server and remove what it left on the host."""
        self.process.stop()
        self.host.run(["rm", "-rf", DATA, SOCKET.rpartition("/")[0]])


def lacking() -> tuple[str, ...]:
    """What this machine lacks for a database, one line each."""
    packages = {package for tool, package in TOOLS.items() if shutil.which(tool, path=SYSTEM_PATH) is None}
    return tuple(f"MariaDB is incomplete: install the package {package}" for package in sorted(packages))


def install(host: Host) -> MariaDB:
    """Make a data directory, start the server on every address, and put Bookinfo's ratings into it."""
    if missing := lacking():
        raise LabError("; ".join(missing))
    host.run(
        ["install", "-d", "-o", "nobody", "-g", "nogroup", "-m", "0700", DATA, SOCKET.rpartition("/")[0]]
    )
    host.run(
        [
            *AS_NOBODY,
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={DATA}",
            f"--tmpdir={SCRATCH}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            "--innodb-log-file-size=8M",
        ]
    )
    process = host.spawn(
        [
            *AS_NOBODY,
            "mariadbd",
            "--no-defaults",
            f"--datadir={DATA}",
            f"--tmpdir={SCRATCH}",
            f"--socket={SOCKET}",
            "--port=3306",
            "--bind-address=*",
            "--skip-name-resolve",
            "--skip-log-bin",
            "--innodb-buffer-pool-size=8M",
            "--innodb-log-file-size=8M",
        ],
        log="mariadb.log",
    )
    database = MariaDB(host, process)
    host.wait_until(lambda: _answers(host), "an answer from MariaDB", timeout_s=START_S)
    database.sql(SCHEMA)
    return database


def _answers(host: Host) -> bool:
    done = host.run(
        ["mariadb", "--no-defaults", f"--socket={SOCKET}", "-uroot", "-e", "SELECT 1"], check=False
    )
    return done.returncode == 0
