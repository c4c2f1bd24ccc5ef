-- Totals that only rise, whatever is removed with old leases: what a monitor counts.

CREATE TABLE totals (
    subject TEXT NOT NULL CHECK (subject IN ('terminations', 'violations')),
    label TEXT NOT NULL CHECK (length(label) BETWEEN 1 AND 31),
    value INTEGER NOT NULL CHECK (value >= 0),
    PRIMARY KEY (subject, label)
) STRICT, WITHOUT ROWID;

INSERT INTO totals SELECT 'terminations', reason, count(*) FROM terminations GROUP BY reason;
INSERT INTO totals SELECT 'violations', code, sum(count) FROM violations GROUP BY code;

CREATE TRIGGER termination_is_counted AFTER INSERT ON terminations
BEGIN
    INSERT INTO totals VALUES ('terminations', NEW.reason, 1)
        ON CONFLICT (subject, label) DO UPDATE SET value = value + 1;
END;

CREATE TRIGGER violation_is_counted AFTER INSERT ON violations
BEGIN
    INSERT INTO totals VALUES ('violations', NEW.code, NEW.count)
        ON CONFLICT (subject, label) DO UPDATE SET value = value + excluded.value;
END;

CREATE TRIGGER violation_growth_is_counted AFTER UPDATE OF count ON violations WHEN NEW.count > OLD.count
BEGIN
    UPDATE totals SET value = value + NEW.count - OLD.count WHERE subject = 'violations' AND label = NEW.code;
END;

CREATE TRIGGER total_only_rises BEFORE UPDATE ON totals WHEN NEW.value < OLD.value
BEGIN
    SELECT RAISE(ABORT, 'a total never falls');
END;

-- Holds all that the numbers of leases by state and mode are read from.
CREATE INDEX leases_by_state_and_mode ON leases (state, mode);
