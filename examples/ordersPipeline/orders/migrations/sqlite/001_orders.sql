-- +goose Up
CREATE TABLE orders (
    id              TEXT PRIMARY KEY,
    client_order_id TEXT NOT NULL UNIQUE,
    event_id        TEXT NOT NULL,
    customer        TEXT NOT NULL,
    email           TEXT NOT NULL,
    country         TEXT NOT NULL,
    product         TEXT NOT NULL,
    quantity        INTEGER NOT NULL,
    total           INTEGER NOT NULL, -- minor units
    currency        TEXT NOT NULL,
    placed_at       INTEGER NOT NULL, -- milliseconds since 1970
    status          TEXT NOT NULL DEFAULT 'PENDING',
    reason          TEXT NOT NULL DEFAULT ''
);

-- What is to be published, written in the transaction of what it tells of. The relay claims by state (published_at IS
-- NULL), never by a cursor over id: a transaction that commits late would lie behind the cursor for ever.
CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id     TEXT NOT NULL UNIQUE,
    topic        TEXT NOT NULL,
    key          TEXT NOT NULL,
    payload      TEXT NOT NULL, -- JSON; the relay encodes it for the topic
    created_at   INTEGER NOT NULL, -- milliseconds since 1970
    published_at INTEGER
);
CREATE INDEX outbox_waiting ON outbox (id) WHERE published_at IS NULL;

-- +goose Down
DROP TABLE outbox;
DROP TABLE orders;
