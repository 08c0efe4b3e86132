//! Which of several servers acts, and what the others tell.
//!
//! One thread with a connection of its own renews the lease, takes it over once it has run out by the database's clock,
//! and listens to notices. What holds:
//! - the lease is taken over in a transaction that has the lock of the writers, and a write that only the acting server
//!   makes checks the epoch under that lock: what a server began before it lost the lease is committed before the next
//!   one begins to act, or never;
//! - who holds the lease believes so for less time than the database does, measured from before it asked, by a clock that
//!   goes on while the process is stopped;
//! - notices only wake. Should they be lost, a look at the newest event every few seconds finds what was missed.

use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::runtime;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::{AsyncMessage, Client};

use super::link::SETTINGS;
use super::options::PostgresOptions;
use super::session::WRITE_LOCK;
use super::shared::{Shared, now};
use crate::error::{Error, Result};
use crate::sql::Peers;
use crate::sql::connection::{Fault, FaultKind};
use crate::types::{Lease, Seen, Term};

/// How long the lease lasts: with the time that the next server needs to take it, also on a busy machine, less than five
/// seconds.
const TERM: Duration = Duration::from_secs(4);
const RENEWAL: Duration = Duration::from_millis(1_500);
/// How long its holder takes the lease for its own: less than the database does.
const BELIEF: Duration = Duration::from_millis(3_500);
/// How long the database may take over a renewal.
const ANSWER: Duration = Duration::from_secs(1);
/// Between looks at the newest event.
const LOOK: Duration = Duration::from_secs(2);
/// Between tries to connect.
const PAUSE: Duration = Duration::from_millis(250);

/// Every connection of a server says in its name whose it is.
const SERVERS: &str = "SELECT substr(application_name, 9),
        CAST(extract(epoch FROM min(backend_start)) * 1000000 AS BIGINT)
    FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'chassis %'
    GROUP BY application_name ORDER BY application_name";

/// The thread that keeps the lease.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    orders: Option<mpsc::UnboundedSender<Resign>>,
    thread: Option<JoinHandle<()>>,
}

/// Give the lease back, take it no more, and say when that is done.
type Resign = oneshot::Sender<()>;

type Answer<T> = std::result::Result<T, tokio_postgres::Error>;

struct Keeping {
    options: PostgresOptions,
    shared: Arc<Shared>,
    resigned: bool,
    /// What the last look found.
    looked: u64,
}

// === impl Keeper ===

impl Keeper {
    pub(super) fn spawn(options: PostgresOptions, shared: Arc<Shared>) -> Result<Self> {
        let failed = |error: std::io::Error| Error::Storage(Arc::new(error));
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (orders, mut waiting) = mpsc::unbounded_channel();
        let keeping = Keeping { options, shared: Arc::clone(&shared), resigned: false, looked: 0 };
        let work = move || {
            runtime.block_on(async {
                tokio::spawn(expire(Arc::clone(&keeping.shared)));
                keeping.run(&mut waiting).await;
            });
        };
        let thread = thread::Builder::new().name("store-lease".to_owned()).spawn(work).map_err(failed)?;
        Ok(Keeper { shared, orders: Some(orders), thread: Some(thread) })
    }
}

#[async_trait]
impl Peers for Keeper {
    fn acting(&self) -> watch::Receiver<bool> {
        self.shared.acting.subscribe()
    }

    fn term(&self) -> Option<Term> {
        self.shared.term()
    }

    fn lease(&self) -> Option<Lease> {
        self.shared.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn resign(&self) {
        let (done, ended) = oneshot::channel();
        if self.orders.as_ref().is_some_and(|orders| orders.send(done).is_ok()) {
            let _ = timeout(2 * ANSWER, ended).await;
        }
    }

    fn changes(&self) -> broadcast::Receiver<Seen> {
        self.shared.changes.subscribe()
    }

    fn unavailable_since(&self) -> Option<Timestamp> {
        self.shared.lost_since()
    }

    fn servers_sql(&self) -> Option<&'static str> {
        Some(SERVERS)
    }
}

impl Drop for Keeper {
    /// Gives the lease back.
    fn drop(&mut self) {
        self.orders = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the lease panicked");
        }
    }
}

/// Ends the belief in a lease that could not be renewed, whatever the keeper is waiting for.
async fn expire(shared: Arc<Shared>) {
    let mut acting = shared.acting.subscribe();
    while acting.wait_for(|acting| *acting).await.is_ok() {
        let left = shared.left();
        if left.is_zero() {
            tracing::warn!("the lease was not renewed in time: another server may act now");
            shared.let_go();
        }
        sleep(left).await;
    }
}

// === impl Keeping ===

impl Keeping {
    /// Until the store is dropped.
    async fn run(mut self, orders: &mut mpsc::UnboundedReceiver<Resign>) {
        loop {
            let error = match self.attend(orders).await {
                Ok(()) => return,
                Err(error) => error,
            };
            self.shared.lost(&Fault::new(FaultKind::Unavailable, Arc::new(error)));
            let mut pause = pin!(sleep(PAUSE));
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    order = orders.recv() => {
                        // Without the database it ends by itself.
                        self.resigned = true;
                        self.shared.let_go();
                        let Some(done) = order else { return };
                        let _ = done.send(());
                    }
                }
            }
        }
    }

    /// Keeps the lease and listens as long as the connection holds.
    async fn attend(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Resign>,
    ) -> std::result::Result<(), Lost> {
        let connecting = self.options.config.connect(self.options.connector.clone());
        let (client, mut connection) = timeout(4 * ANSWER, connecting).await??;
        let (told, mut notices) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(message)) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                if let AsyncMessage::Notification(notice) = message
                    && told.send(notice).is_err()
                {
                    break;
                }
            }
        });
        timeout(ANSWER, client.batch_execute(&format!("{SETTINGS}; LISTEN chassis; LISTEN chassis_lease")))
            .await??;
        self.shared.found();
        // What was told before is lost.
        self.shared.tell(Seen::Anything);
        self.looked = 0;
        let (mut renew_at, mut look_at) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                biased;
                order = orders.recv() => {
                    self.resigned = true;
                    timeout(ANSWER, self.release(&client)).await??;
                    let Some(done) = order else { return Ok(()) };
                    let _ = done.send(());
                }
                () = sleep_until(renew_at) => {
                    let next = timeout(ANSWER, self.renew_or_take(&client)).await??;
                    renew_at = Instant::now() + next;
                }
                notice = notices.recv() => match notice {
                    Some(notice) if notice.channel() == "chassis_lease" => renew_at = Instant::now(),
                    Some(notice) => self.shared.take_notice(notice.payload()),
                    None => return Err(Lost::Closed),
                },
                () = sleep_until(look_at) => {
                    timeout(ANSWER, self.look(&client)).await??;
                    look_at = Instant::now() + LOOK;
                }
            }
        }
    }

    /// Returns when to come back.
    async fn renew_or_take(&mut self, client: &Client) -> Answer<Duration> {
        if self.resigned {
            self.read(client).await?;
            return Ok(RENEWAL);
        }
        let begun = now();
        let sql = "UPDATE lease SET expires_at = clock_timestamp() + CAST($2 AS TEXT)::interval
                   WHERE owner = $1 RETURNING epoch";
        let term = format!("{} ms", TERM.as_millis());
        if let Some(row) = client.query_opt(sql, &[&self.shared.owner, &term]).await? {
            self.hold(row.get(0), begun);
            return Ok(RENEWAL);
        }
        self.shared.let_go();
        let left = self.read(client).await?;
        if !left.is_zero() {
            return Ok(left.min(RENEWAL));
        }
        // Nobody writes while it changes hands.
        client.batch_execute(&format!("BEGIN; SET LOCAL lock_timeout = '800ms'; {WRITE_LOCK}")).await?;
        let begun = now();
        let sql = "UPDATE lease SET owner = $1, holder = $3, epoch = epoch + 1,
                       expires_at = clock_timestamp() + CAST($2 AS TEXT)::interval
                   WHERE expires_at <= clock_timestamp() RETURNING epoch";
        let taken = client.query_opt(sql, &[&self.shared.owner, &term, &self.options.server_name]).await?;
        client.batch_execute("COMMIT").await?;
        if let Some(row) = taken {
            tracing::info!(epoch = row.get::<_, i64>(0), "this server acts from now on");
            self.hold(row.get(0), begun);
            return Ok(RENEWAL);
        }
        Ok(Duration::ZERO)
    }

    fn hold(&self, epoch: i64, begun: Duration) {
        let epoch = epoch.unsigned_abs();
        let lease = Lease { holder: self.options.server_name.clone(), epoch, ours: true };
        *self.shared.lease.lock().unwrap_or_else(PoisonError::into_inner) = Some(lease);
        self.shared.hold(epoch, begun + BELIEF);
    }

    /// Notes who has the lease, and returns for how long.
    async fn read(&self, client: &Client) -> Answer<Duration> {
        let sql = "SELECT holder, epoch, CAST(ceil(extract(epoch FROM expires_at - clock_timestamp()) * 1000) AS BIGINT)
                   FROM lease";
        let row = client.query_one(sql, &[]).await?;
        let left = Duration::from_millis(row.get::<_, i64>(2).max(0).unsigned_abs());
        let lease = Lease { holder: row.get(0), epoch: row.get::<_, i64>(1).unsigned_abs(), ours: false };
        *self.shared.lease.lock().unwrap_or_else(PoisonError::into_inner) =
            (!left.is_zero()).then_some(lease);
        Ok(left)
    }

    async fn release(&self, client: &Client) -> Answer<()> {
        self.shared.let_go();
        let sql = "UPDATE lease SET owner = '', expires_at = to_timestamp(0) WHERE owner = $1";
        if client.execute(sql, &[&self.shared.owner]).await? > 0 {
            client.batch_execute("NOTIFY chassis_lease").await?;
        }
        *self.shared.lease.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// Finds what no notice told of.
    async fn look(&mut self, client: &Client) -> Answer<()> {
        let row = client.query_one("SELECT coalesce(max(id), 0) FROM events", &[]).await?;
        // What was there at the last look should be known by now.
        if *self.shared.newest.borrow() < self.looked {
            self.shared.tell(Seen::Anything);
            self.shared.raise_newest(self.looked);
        }
        self.looked = row.get::<_, i64>(0).unsigned_abs();
        self.shared.found();
        Ok(())
    }
}

/// Why a connection is given up.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the connection to the database was closed")]
    Closed,
    #[error("the database did not answer in time")]
    Late(#[from] tokio::time::error::Elapsed),
    #[error("the database refused")]
    Refused(#[from] tokio_postgres::Error),
}
