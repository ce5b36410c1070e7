-- +goose Up
CREATE TABLE mails (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id  TEXT NOT NULL UNIQUE,
    order_id    TEXT NOT NULL,
    sender      TEXT NOT NULL,
    recipient   TEXT NOT NULL,
    subject     TEXT NOT NULL,
    body        TEXT NOT NULL,
    deliveries  INTEGER NOT NULL DEFAULT 1, -- how often this Message-ID came
    received_at INTEGER NOT NULL -- milliseconds since 1970, of the first delivery
);
CREATE INDEX mails_order ON mails (order_id);

-- +goose Down
DROP TABLE mails;
