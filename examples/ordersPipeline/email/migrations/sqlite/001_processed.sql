-- +goose Up
-- One row per event that asks for a mail. PENDING is written before the mail is sent and SENT after: a crash in between
-- sends it again, with the same Message-ID.
CREATE TABLE processed (
    event_id   TEXT PRIMARY KEY,
    order_id   TEXT NOT NULL,
    message_id TEXT NOT NULL,
    state      TEXT NOT NULL, -- PENDING, SENT or FAILED
    detail     TEXT NOT NULL DEFAULT '',
    updated_at INTEGER NOT NULL -- milliseconds since 1970
);
CREATE INDEX processed_state ON processed (state) WHERE state <> 'SENT';

-- +goose Down
DROP TABLE processed;
