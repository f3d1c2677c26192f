-- What was told by each channel of what stands; what is over and told to be so isn't here any more.

CREATE TABLE alerts_told (
    channel text NOT NULL,
    alert   text NOT NULL, -- its key, like anomaly/17
    said    text NOT NULL, -- JSON
    PRIMARY KEY (channel, alert)
);
