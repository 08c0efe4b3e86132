//! The book of a server that takes over, made from the store.
//!
//! Nothing is believed of a node until it has reported: it is suspect, in a term of its own, and its silence counts from now.
//! So leases that another server's last answers gave out have ended before anything is placed elsewhere.

use jiff::Timestamp;

use crate::node::{Duty, Liveness, Node, NodeSpec};

use super::Scheduler;
use super::request::{Place, Request, Standing, Tracked};

impl Scheduler {
    /// A node of the store. One that was down is down until it has reported.
    pub fn node_restore(&mut self, spec: NodeSpec, duty: Duty, is_down: bool, now: Timestamp) {
        let term = self.draw();
        let liveness = if is_down { Liveness::Down } else { Liveness::Suspect };
        let node = Node { duty, liveness, ..Node::new(spec, term, now) };
        self.capacity = self.capacity.plus(node.spec.capacity);
        self.nodes.insert(node.spec.name.clone(), node);
    }

    /// An instance of the store, after all nodes: with its place there, or without one, waiting.
    pub fn instance_restore(&mut self, request: Request, place: Option<Place>, now: Timestamp) {
        let Some(place) = place.filter(|place| self.nodes.contains_key(&place.node)) else {
            self.queue.add(&request, now);
            self.freed.all = true;
            let key = request.instance.clone();
            self.instances.insert(key, Tracked::waiting(request));
            return;
        };
        let Place { node, epoch, leased, ending } = place;
        // What may move was to be placed elsewhere when the last server ended, or the node had come back and has a lease again,
        // which that server did not live to write down: it is waited for anew.
        if let Some(node) = self.nodes.get_mut(&node).filter(|node| leased && node.liveness == Liveness::Down)
        {
            node.liveness = Liveness::Suspect;
        }
        let key = request.instance.clone();
        let standing = match ending {
            None => Standing::Placed { node: node.clone(), epoch },
            Some(next) => Standing::Ending { node: node.clone(), epoch, next },
        };
        self.instances.insert(key.clone(), Tracked { request, standing, leased });
        self.book(&key, &node);
    }
}
