"""Sessions in a SQLite file, without SQLAlchemy: an example of a store."""

import sqlite3
from contextlib import closing

from flask_serverside import ConfigurationError
from flask_serverside.stores import Record
from flask_serverside.stores import Store

TABLE = """CREATE TABLE IF NOT EXISTS sessions (
    handle TEXT PRIMARY KEY, payload BLOB, version INTEGER, created INTEGER,
    seen INTEGER, expires INTEGER, lifetime INTEGER, deadline INTEGER, subject TEXT)"""


class SQLiteStore(Store):
    """One row a session, its columns in the order of the fields of a Record."""

    unavailable = (sqlite3.OperationalError,)
    failed = (sqlite3.Error,)

    def __init__(self, path, **options):
        super().__init__(**options)
        self.path = path

    @classmethod
    def from_app(cls, app, **options):
        path = app.config.get("SESSION_SQLITE")
        if not isinstance(path, str):
            raise ConfigurationError("SESSION_SQLITE", path, "the path of a file")
        return cls(path, **options)

    def _create(self, record):
        row = record[:9]  # all but the token
        return (
            self._run("INSERT OR IGNORE INTO sessions VALUES (?,?,?,?,?,?,?,?,?)", row)[0] == 1
        )

    def _load(self, handle):
        rows = self._run("SELECT * FROM sessions WHERE handle = ?", (handle,))[1]
        return Record(*rows[0]) if rows else None

    def _replace(self, record):
        changed, _ = self._run(
            "UPDATE sessions SET payload = ?, version = ?, seen = ?, expires = ?, lifetime = ?,"
            " deadline = ?, subject = ? WHERE handle = ? AND version = ? AND expires > ?",
            (
                record.payload,
                record.version,
                record.seen,
                record.expires,
                record.lifetime,
                record.deadline,
                record.subject,
                record.handle,
                record.version - 1,
                record.seen,
            ),
        )
        return record if changed else self._load(record.handle)

    def _touch(self, record):
        changed, _ = self._run(
            "UPDATE sessions SET seen = ?, expires = ?"
            " WHERE handle = ? AND version = ? AND expires > ?",
            (record.seen, record.expires, record.handle, record.version, record.seen),
        )
        return changed == 1

    def _delete(self, handle):
        return self._run("DELETE FROM sessions WHERE handle = ?", (handle,))[0] == 1

    def purge(self):
        expired = (self.now(),)
        return self._call(self._run, "DELETE FROM sessions WHERE expires <= ?", expired)[0]

    def _run(self, statement, values):
        """How many rows were changed, and the rows that were found."""
        connection = sqlite3.connect(self.path, timeout=self.timeout, isolation_level=None)
        with closing(connection):
            connection.execute(TABLE)
            cursor = connection.execute(statement, values)
            return cursor.rowcount, cursor.fetchall()
