BEGIN TRANSACTION;
CREATE TABLE posthouse_callers (store TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO "posthouse_callers" VALUES('shop-store',1);
CREATE TABLE posthouse_calls (
  place INTEGER PRIMARY KEY,            -- below 0: it waits for a number, the oldest lowest
  id TEXT NOT NULL,
  service TEXT NOT NULL,
  operation TEXT NOT NULL,
  state INTEGER NOT NULL,
  wants INTEGER NOT NULL,
  frame BLOB NOT NULL,
  digest BLOB NOT NULL,
  work INTEGER NOT NULL,
  nth INTEGER NOT NULL,
  key TEXT NOT NULL,
  deadline REAL NOT NULL,
  created REAL NOT NULL,
  owner TEXT NOT NULL,
  parked INTEGER NOT NULL,
  outcome BLOB NOT NULL,
  outcome_epoch INTEGER NOT NULL,
  sum INTEGER NOT NULL,
  frame_sum INTEGER NOT NULL,
  outcome_sum INTEGER NOT NULL
) STRICT;
INSERT INTO "posthouse_calls" VALUES(1099511627776,'00010000000000000000000000000000','stock','stock.take',1,1,X'6672616D65206F662030',X'646967657374206F662030',0,0,'',0.0,1767268800.0,'one',0,X'',0,1915656825,314347318,0);
INSERT INTO "posthouse_calls" VALUES(1099511627777,'00010000000000000000000000000001','stock','stock.take',1,1,X'6672616D65206F662031',X'646967657374206F662031',0,0,'',0.0,1767268801.0,'one',0,X'',0,145350779,1706803104,0);
CREATE TABLE posthouse_dead (
  number INTEGER PRIMARY KEY,
  place INTEGER NOT NULL,
  id TEXT NOT NULL,
  operation TEXT NOT NULL,
  frame BLOB NOT NULL,
  state TEXT NOT NULL,
  code TEXT NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  cause TEXT NOT NULL,
  at REAL NOT NULL,
  sum INTEGER NOT NULL
) STRICT;
INSERT INTO "posthouse_dead" VALUES(1,1099511627776,'00010000000000000000000000000000','prices.quote',X'006672616D65','parked','handler.failed','there is no price','Traceback ...',5,'c1',1767268800.5,450371514);
CREATE TABLE posthouse_epoch_floors (
  epoch INTEGER NOT NULL,
  lane INTEGER NOT NULL,
  floor INTEGER NOT NULL,
  ranges BLOB NOT NULL,
  PRIMARY KEY (epoch, lane)
) STRICT, WITHOUT ROWID;
CREATE TABLE posthouse_epochs (epoch INTEGER PRIMARY KEY, reason TEXT NOT NULL, at REAL NOT NULL) STRICT;
INSERT INTO "posthouse_epochs" VALUES(1,'created',1767268800.0);
CREATE TABLE posthouse_kept (
  first INTEGER PRIMARY KEY,            -- the places first..last
  last INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;
CREATE TABLE posthouse_keys (
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  digest BLOB NOT NULL,
  reference TEXT NOT NULL,
  until REAL NOT NULL,
  PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE posthouse_lanes_in (
  lane INTEGER PRIMARY KEY,
  caller_store TEXT NOT NULL,
  caller_epoch INTEGER NOT NULL,
  service TEXT NOT NULL,
  next INTEGER NOT NULL,
  floor INTEGER NOT NULL,
  ranges BLOB NOT NULL,
  closed INTEGER NOT NULL,
  UNIQUE (caller_store, caller_epoch)
) STRICT;
INSERT INTO "posthouse_lanes_in" VALUES(0,'',0,'',1,0,X'90',0);
INSERT INTO "posthouse_lanes_in" VALUES(1,'shop-store',1,'shop',3,1,X'90',0);
CREATE TABLE posthouse_lanes_out (
  lane INTEGER PRIMARY KEY,
  service TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  peer_store TEXT NOT NULL,
  peer_epoch INTEGER NOT NULL,
  next INTEGER NOT NULL,
  floor INTEGER NOT NULL,
  ranges BLOB NOT NULL,
  pending INTEGER NOT NULL,
  waiting INTEGER NOT NULL,
  acked INTEGER NOT NULL,
  closed INTEGER NOT NULL,
  UNIQUE (service, epoch)
) STRICT;
INSERT INTO "posthouse_lanes_out" VALUES(1,'stock',1,'',0,2,0,X'90',0,0,0,0);
CREATE TABLE posthouse_members (
  instance TEXT PRIMARY KEY,
  until REAL NOT NULL,
  pid INTEGER NOT NULL,
  started INTEGER NOT NULL,
  namespace INTEGER NOT NULL,
  boot TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "posthouse_members" VALUES('one',1767268815.0,30632,2441043,4026531836,'a boot');
CREATE TABLE posthouse_requests (
  place INTEGER PRIMARY KEY,
  id TEXT NOT NULL,
  operation TEXT NOT NULL,
  state INTEGER NOT NULL,
  digest BLOB NOT NULL,
  frame BLOB NOT NULL,
  instance TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  failures INTEGER NOT NULL,
  deaths INTEGER NOT NULL,
  due REAL NOT NULL,
  deadline REAL NOT NULL,
  asked INTEGER NOT NULL,
  asker INTEGER NOT NULL,
  reply_to TEXT NOT NULL,
  outcome BLOB NOT NULL,
  sum INTEGER NOT NULL,
  frame_sum INTEGER NOT NULL,
  outcome_sum INTEGER NOT NULL
) STRICT;
INSERT INTO "posthouse_requests" VALUES(1099511627777,'00010000000000000000000000000001','prices.quote',1,X'646967657374206F662031',X'6672616D65206F662031','',0,0,0,1767268800.0,0.0,1,1,'',X'',3918239083,1706803104,0);
INSERT INTO "posthouse_requests" VALUES(1099511627778,'00010000000000000000000000000002','prices.quote',2,X'646967657374206F662032',X'6672616D65206F662032','one',1,0,0,1767268800.0,0.0,1,1,'',X'',1161903699,4239584794,0);
CREATE TABLE posthouse_scripts (number INTEGER PRIMARY KEY, digest BLOB NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE posthouse_store (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  id TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  machine TEXT NOT NULL,
  device INTEGER NOT NULL,
  inode INTEGER NOT NULL,
  letters INTEGER NOT NULL,             -- dead letters, ever: the number of the newest
  probe INTEGER NOT NULL                -- is written to measure how long a flush takes
) STRICT;
INSERT INTO "posthouse_store" VALUES(1,'0af1',1,'a machine',65024,2195624,1,4);
CREATE INDEX posthouse_calls_by_id ON posthouse_calls (id);
CREATE INDEX posthouse_calls_by_work ON posthouse_calls (work) WHERE work <> 0;
CREATE INDEX posthouse_calls_waiting ON posthouse_calls (service, place) WHERE place < 0;
CREATE INDEX posthouse_calls_keyed ON posthouse_calls (service, key, place) WHERE key <> '' AND state < 5;
CREATE INDEX posthouse_requests_due ON posthouse_requests (operation, due, place) WHERE state IN (1, 3);
CREATE INDEX posthouse_requests_run ON posthouse_requests (instance) WHERE state = 2;
CREATE INDEX posthouse_dead_by_operation ON posthouse_dead (operation, number);
CREATE INDEX posthouse_dead_by_cause ON posthouse_dead (cause, number);
CREATE INDEX posthouse_dead_by_place ON posthouse_dead (place, number);
CREATE INDEX posthouse_keys_by_until ON posthouse_keys (until);
-- How many feeds were ever opened: the number of one that is gone is not given again.
ALTER TABLE posthouse_store ADD COLUMN feeds INTEGER NOT NULL DEFAULT 0;

CREATE TABLE posthouse_streams (
  stream INTEGER PRIMARY KEY,
  topic TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  next INTEGER NOT NULL,
  first INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  retain REAL NOT NULL,
  UNIQUE (topic, epoch)
) STRICT;

-- What was told, by stream and number; the frame stands last, since some look only at what stands before it.
CREATE TABLE posthouse_events (
  place INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  id TEXT NOT NULL,
  sum INTEGER NOT NULL,
  frame BLOB NOT NULL
) STRICT;
CREATE INDEX posthouse_events_by_id ON posthouse_events (id);

-- What was had of the streams of others; the events that are to be run stand among the requests.
CREATE TABLE posthouse_feeds (
  lane INTEGER PRIMARY KEY,             -- above all lanes of requests
  publisher_store TEXT NOT NULL,
  publisher_epoch INTEGER NOT NULL,
  subscription TEXT NOT NULL,
  topic TEXT NOT NULL,
  floor INTEGER NOT NULL,
  ranges BLOB NOT NULL,
  next INTEGER NOT NULL,
  head INTEGER NOT NULL,
  UNIQUE (subscription, topic, publisher_store, publisher_epoch)
) STRICT;
CREATE INDEX posthouse_feeds_by_topic ON posthouse_feeds (topic);

CREATE TABLE posthouse_subscriptions (name TEXT PRIMARY KEY, topic TEXT NOT NULL, created REAL NOT NULL)
  STRICT, WITHOUT ROWID;
COMMIT;
PRAGMA application_id = 1349473140;
PRAGMA user_version = 2;
