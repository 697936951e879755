//! Fail points: named steps at which a test can stop a thread, to see what the others do without it.
//!
//! They exist with the feature `fail-points`, which is for khonsu's own tests; without it `fail_point!` is nothing. A
//! thread has its own hook, which each fail point that the thread comes to is passed to. It is called between two steps
//! of the algorithm and holds nothing, so it may wait for as long as it likes, and may use databases: while it runs,
//! the thread has no hook.

/// `fail_point!(Name);` passes [`FailPoint::Name`] to this thread's hook.
#[cfg(feature = "fail-points")]
macro_rules! fail_point {
    ($point:ident) => {
        $crate::stm::fail_point::reach($crate::stm::fail_point::FailPoint::$point)
    };
}

#[cfg(not(feature = "fail-points"))]
macro_rules! fail_point {
    ($point:ident) => {
        ()
    };
}

#[cfg(feature = "fail-points")]
pub use points::FailPoint;
#[cfg(feature = "fail-points")]
pub(crate) use points::reach;

#[cfg(feature = "fail-points")]
mod points {
    use std::cell::Cell;

    macro_rules! fail_points {
        ($($(#[$doc:meta])* $point:ident,)*) => {
            /// A step at which a thread can be stopped. The name says what has just happened, or is about to.
            #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
            pub enum FailPoint {
                $($(#[$doc])* $point,)*
            }

            impl FailPoint {
                /// All of them, in the order of the enumeration.
                pub const ALL: &[FailPoint] = &[$(FailPoint::$point,)*];
            }
        };
    }

    fail_points! {
        // ---- begin and end ----
        /// Nothing has been done yet.
        BeforeClaim,
        /// A slot is claimed with a snapshot that is not known to be one.
        SnapshotPublished,
        /// The clock has moved, and the slot keeps everything from about now on.
        SnapshotAnnounced,
        /// The snapshot is taken and not registered.
        SnapshotTaken,
        /// The snapshot is registered.
        SnapshotRegistered,
        /// A slot is claimed, and has no context yet if it is used for the first time.
        SlotClaimed,
        /// All slots are claimed and there are to be more.
        BeforeMoreSlots,
        /// There are more slots, and none of them is claimed by this thread yet.
        MoreSlots,
        /// A segment of an array is made and not published.
        SegmentMade,
        /// A commit is over and has given its snapshot up to reclaim.
        SnapshotGivenUp,
        /// The slot is clean and still claimed.
        BeforeSlotReleased,
        /// A free slot is claimed for a moment, to free what it has retired.
        SlotVisited,
        /// The last handle has gone, and a free slot is claimed to give up its count of the database.
        SlotClosing,
        /// A slot is free for good, and its count of the database was not given back.
        SlotClosed,

        // ---- read ----
        /// A read at read committed keeps everything above its floor and has not taken its snapshot.
        ReadAnnounced,
        /// A read is pinned and has looked nothing up.
        ReadPinned,
        /// A read has its record and has not looked at its versions.
        ReadRecordFound,
        /// A read has its version and has not taken its value.
        ReadVersionFound,
        /// A bound key's record is found, and counted for the key, which does not hold it yet.
        BoundRecordFound,
        /// A bound key holds another record than before, whose count it still has.
        BoundRecordReplaced,
        /// A read of many keys has found records and not looked at their versions.
        ManyRecordsFound,
        /// A read of many keys is between two parts, and not pinned.
        GetManyBetweenParts,
        /// A read at read committed is done and still keeps everything above its floor.
        BeforeBackToFloor,
        /// A reader has met a ready transaction, which it is going to stamp.
        ReadMetReady,
        /// A reader has met a stamped transaction, which it is going to decide.
        ReadMetStamped,
        /// A scan has collected records and not read them.
        ScanCollected,
        /// A scan is between two of its records.
        ScanBetweenRecords,
        /// A scan is between two parts, and not pinned.
        ScanBetweenParts,
        /// A cursor has entries read ahead.
        CursorReadAhead,

        // ---- stage ----
        /// A write would exceed a limit, and what can be reclaimed was reclaimed.
        StageReclaimed,
        /// A write is within the limits and not staged.
        BeforeStaged,

        // ---- commit: records ----
        /// No reservation of others was found.
        ReservationsChecked,
        /// A record is made and not in the hash index.
        RecordMade,
        /// A record is in the hash index and perhaps not in the order index.
        RecordInHashIndex,
        /// A record is in both indexes, and its maker has not looked whether it was sealed meanwhile.
        RecordInOrderIndex,
        /// The number of buckets is about to double.
        BeforeMoreBuckets,
        /// A bucket is claimed and not in the list.
        BucketClaimed,
        /// A bucket is in the list and not marked so.
        BucketLinked,
        /// All records are found, and each may be sealed again.
        RecordsFound,

        // ---- commit: install ----
        /// The slot keeps what certification will need; nothing is installed.
        BeforeInstall,
        /// The writer has found a record sealed and is going to take it out.
        InstallMetSeal,
        /// A transaction to be certified is announced in its slot and has installed nothing.
        Announced,
        /// A version is made and not linked.
        VersionMade,
        /// A version is linked, and nothing else was done about it.
        VersionLinked,
        /// A version has taken the place of an aborted one, which is not retired.
        AbortedVersionReplaced,
        /// Between two installs, or after the last.
        InstalledOne,
        /// Another transaction's installation has used up its time and is going to be aborted.
        BeforeAbortingOther,
        /// Another transaction's installation was aborted.
        OtherAborted,
        /// A writer has met a ready transaction, which it is going to stamp.
        InstallMetReady,
        /// A writer has met a stamped transaction, which it is going to decide.
        InstallMetStamped,
        /// Another transaction has aborted this installation, which is going to start over.
        AbortedByOther,

        // ---- commit: from ready to decided ----
        /// All versions are linked, and the transaction is not ready.
        BeforeReady,
        /// The transaction is ready and has no stamp.
        Ready,
        /// A stamp is drawn and not published.
        StampDrawn,
        /// A stamp is published, be it this one or another's.
        Stamped,
        /// One of the reads is about to be certified.
        BeforeReadCertified,
        /// A record in one of the ranges is about to be certified.
        BeforeRangeCertified,
        /// Others under certification, with earlier stamps, were found and not settled.
        AnnouncedCollected,
        /// It may commit, and has left no mark as a reader.
        BeforeMarksLeft,
        /// A mark is left as a reader, and perhaps not all of them.
        MarkLeft,
        /// A place among the newest scans is drawn and not taken.
        ScanPlaced,
        /// A transaction that has written nothing has left its marks, and not looked at who overwrote what it read.
        LateMarksLeft,
        /// The verdict is found and not published.
        VerdictFound,
        /// The verdict is published, be it this one or another's.
        Decided,

        // ---- commit: finish ----
        /// The transaction is decided and none of its versions is finished.
        BeforeFinish,
        /// A certified transaction is decided, no longer announced, and not finished.
        AnnouncementTakenBack,
        /// Between two versions that get their number, or after the last.
        FinishedOne,
        /// An aborted version is unlinked and not retired.
        AbortedVersionUnlinked,
        /// Between two aborted versions that are unlinked, or after the last.
        UnlinkedOne,
        /// All versions are finished or unlinked, and the descriptor is not retired.
        BeforeDescriptorRetired,
        /// The commit is over, its snapshot given up, and nothing reclaimed.
        CommitOver,

        // ---- reclamation ----
        /// A record is marked as noted and not in the notes.
        BeforeNoted,
        /// A node of a stack is made and not linked.
        BeforePushed,
        /// The clock was read and the snapshots not.
        BeforeSnapshotsScanned,
        /// The snapshots were looked at.
        SnapshotsScanned,
        /// Notes were taken, and none of them looked at.
        NotesTaken,
        /// A record is no longer marked as noted, and was not looked at.
        NoteTaken,
        /// What is left of the notes is about to be given back.
        BeforeNotesGivenBack,
        /// The flag of the one trimmer of a record is taken.
        TrimBegun,
        /// A version is unlinked and not retired.
        VersionUnlinked,
        /// A record is sealed and its last version not retired.
        RecordSealed,
        /// The record is trimmed and the flag still taken.
        BeforeTrimEnded,
        /// A sealed record is in both indexes, and about to be taken out.
        BeforeRemoved,
        /// A sealed record is marked as deleted in the hash index, and still linked there.
        RemovalMarked,
        /// A sealed record is unlinked from the hash index, which has not given its count back.
        UnlinkedFromHashIndex,
        /// A sealed record is out of the hash index and still in the order index.
        RemovedFromHashIndex,
        /// A sealed record is found in the order index and about to be taken out.
        BeforeRemovedFromOrderIndex,
        /// A sealed record of another is taken out of the order index, to make room for a new one.
        OtherRemovedFromOrderIndex,
        /// What waits for the oldest snapshot was found due and not taken.
        BeforeWaitingTaken,
        /// A record is marked as waiting and not among those that wait.
        BeforeWaiting,

        // ---- reservation ----
        /// A reservation is counted and not held.
        ReservationCounted,
        /// A reservation is held, and the ones before it, too.
        ReservationHeld,
        /// A reservation is removed and still counted.
        ReservationRemoved,
        /// A committer looks at a reservation.
        ReservationMet,

        // ---- two-phase commit: prepare ----
        /// The global id is claimed, and nothing is held.
        GlobalIdClaimed,
        /// It is counted as holding something, and nothing is entered.
        HoldCounted,
        /// Between two keys that are entered as held, or after the last.
        HoldEnteredOne,
        /// All that is held is entered, and others were not looked for.
        HoldEntered,
        /// One of the keys that are held is about to be looked at.
        PreparationLooksAt,
        /// The transaction is validated, and does not bind anyone.
        PreparationValidated,
        /// What it is going to write can be found, and it does not bind anyone.
        PreparedStaged,
        /// It binds the others, and perhaps is not logged.
        PreparationHolds,
        /// It is in doubt, and its owner has not said so.
        PreparationOver,
        /// It is refused, and what it holds still entered.
        PreparationRefused,
        /// A committer looks at what is held.
        HoldsMet,
        /// Another transaction that is being validated has used up its time and is going to be refused.
        BeforeRefusingOther,
        /// Another transaction was refused.
        OtherRefused,

        // ---- two-phase commit: decide ----
        /// An attempt to commit a prepared transaction has installed nothing, and is not known to others.
        BeforeAttemptAnnounced,
        /// The prepared transaction leads to the attempt.
        AttemptAnnounced,
        /// The attempt has committed, and the prepared transaction still leads to it.
        BeforeAttemptOver,
        /// The prepared transaction is rolled back, and what it holds still entered.
        RolledBack,
        /// What it held is not entered any more, and its outcome not in its place.
        HoldLeft,
        /// Its outcome is in its place, and perhaps there are too many.
        OutcomeRemembered,
    }

    type Hook = Box<dyn FnMut(FailPoint)>;

    thread_local! {
        static HOOK: Cell<Option<Hook>> = const { Cell::new(None) };
    }

    impl FailPoint {
        /// Sets what this thread does at each fail point that it comes to, and gives what it did before.
        pub fn replace_hook(hook: Option<Hook>) -> Option<Hook> {
            HOOK.replace(hook)
        }
    }

    pub(crate) fn reach(point: FailPoint) {
        // A thread that ends may have lost its hook already.
        if let Ok(Some(mut hook)) = HOOK.try_with(Cell::take) {
            hook(point);
            HOOK.set(Some(hook));
        }
    }
}
