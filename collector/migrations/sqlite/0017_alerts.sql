-- What was told by each channel of what stands; what is over and told to be so isn't here any more.

CREATE TABLE alerts_told (
    channel TEXT NOT NULL,
    alert   TEXT NOT NULL, -- its key, like anomaly/17
    said    TEXT NOT NULL, -- JSON
    PRIMARY KEY (channel, alert)
) STRICT, WITHOUT ROWID;
