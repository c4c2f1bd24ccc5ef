-- The name of this log of events. A sequence means something only within it: another database, or this one made anew,
-- counts from 1 again, and a reader that comes with a cursor of the one before has to be told.

CREATE TABLE event_log (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch TEXT NOT NULL CHECK (length(epoch) = 16)
) STRICT;

INSERT INTO event_log (one, epoch) VALUES (1, lower(hex(randomblob(8))));
