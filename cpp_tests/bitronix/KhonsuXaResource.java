import com.sun.jna.Function;
import com.sun.jna.Memory;
import com.sun.jna.NativeLibrary;
import com.sun.jna.NativeLong;
import com.sun.jna.Pointer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import javax.transaction.xa.XAException;
import javax.transaction.xa.XAResource;
import javax.transaction.xa.Xid;

/** The switch of libkhonsu_xa as an XAResource: each call is one call of the switch, in the thread that makes it. */
final class KhonsuXaResource implements XAResource {
  private static final int XID_BYTES = 3 * 8 + 128;
  private static final NativeLibrary LIBRARY = NativeLibrary.getInstance("khonsu_xa");
  /** Behind the name, the flags and the version. */
  private static final Pointer ENTRIES = LIBRARY.getGlobalVariableAddress("khonsu_xa_switch").share(32 + 8 + 8);
  private static final Function OPEN = entry(0);
  private static final Function START = entry(2);
  private static final Function END = entry(3);
  private static final Function ROLLBACK = entry(4);
  private static final Function PREPARE = entry(5);
  private static final Function COMMIT = entry(6);
  private static final Function RECOVER = entry(7);
  private static final Function FORGET = entry(8);

  private final int rmid;
  private final String information;

  KhonsuXaResource(int rmid, String information) {
    this.rmid = rmid;
    this.information = information;
  }

  private static Function entry(int index) {
    return Function.getFunction(ENTRIES.getPointer(8L * index));
  }

  /** Each thread opens the rmid for itself; again is nothing. */
  void open() throws XAException {
    check(OPEN.invokeInt(new Object[] {information, rmid, new NativeLong(0)}));
  }

  private static int check(int code) throws XAException {
    if (code != XA_OK && code != XA_RDONLY) {
      XAException exception = new XAException(
          "code " + code + ": " + LIBRARY.getFunction("khonsu_xa_message").invokeString(new Object[] {}, false));
      exception.errorCode = code;
      throw exception;
    }
    return code;
  }

  private static Memory toNative(Xid xid) {
    Memory memory = new Memory(XID_BYTES);
    memory.clear();
    byte[] gtrid = xid.getGlobalTransactionId();
    byte[] bqual = xid.getBranchQualifier();
    memory.setLong(0, xid.getFormatId());
    memory.setLong(8, gtrid.length);
    memory.setLong(16, bqual.length);
    memory.write(24, gtrid, 0, gtrid.length);
    memory.write(24 + gtrid.length, bqual, 0, bqual.length);
    return memory;
  }

  private static final class NativeXid implements Xid {
    private final int format;
    private final byte[] gtrid;
    private final byte[] bqual;

    NativeXid(Pointer pointer) {
      format = (int) pointer.getLong(0);
      gtrid = pointer.getByteArray(24, (int) pointer.getLong(8));
      bqual = pointer.getByteArray(24 + gtrid.length, (int) pointer.getLong(16));
    }

    @Override public int getFormatId() { return format; }
    @Override public byte[] getGlobalTransactionId() { return gtrid.clone(); }
    @Override public byte[] getBranchQualifier() { return bqual.clone(); }

    @Override public boolean equals(Object other) {
      return other instanceof NativeXid && format == ((NativeXid) other).format
          && Arrays.equals(gtrid, ((NativeXid) other).gtrid) && Arrays.equals(bqual, ((NativeXid) other).bqual);
    }

    @Override public int hashCode() { return Arrays.hashCode(gtrid) * 31 + Arrays.hashCode(bqual); }
  }

  private int call(Function function, Xid xid, long flags) throws XAException {
    open();
    return check(function.invokeInt(new Object[] {toNative(xid), rmid, new NativeLong(flags)}));
  }

  @Override public void start(Xid xid, int flags) throws XAException { call(START, xid, flags); }
  @Override public void end(Xid xid, int flags) throws XAException { call(END, xid, flags); }

  @Override public int prepare(Xid xid) throws XAException {
    BitronixTest.reach("before prepare " + rmid);
    int vote = call(PREPARE, xid, TMNOFLAGS);
    BitronixTest.reach("after prepare " + rmid);
    return vote;
  }

  @Override public void commit(Xid xid, boolean onePhase) throws XAException {
    BitronixTest.reach("before commit " + rmid);
    call(COMMIT, xid, onePhase ? TMONEPHASE : TMNOFLAGS);
    BitronixTest.reach("after commit " + rmid);
  }

  @Override public void rollback(Xid xid) throws XAException { call(ROLLBACK, xid, TMNOFLAGS); }
  @Override public void forget(Xid xid) throws XAException { call(FORGET, xid, TMNOFLAGS); }

  /** Java's scans give everything with their start. */
  @Override public Xid[] recover(int flags) throws XAException {
    final int count = 8;
    List<Xid> xids = new ArrayList<>();
    if ((flags & TMSTARTRSCAN) == 0) return new Xid[0];
    open();
    Memory memory = new Memory((long) XID_BYTES * count);
    int given;
    long scan = TMSTARTRSCAN;
    do {
      given = RECOVER.invokeInt(new Object[] {memory, new NativeLong(count), rmid, new NativeLong(scan)});
      if (given < 0) check(given);
      for (int i = 0; i < given; i++) xids.add(new NativeXid(memory.share((long) XID_BYTES * i)));
      scan = TMNOFLAGS;
    } while (given == count);
    return xids.toArray(new Xid[0]);
  }

  @Override public boolean isSameRM(XAResource other) { return this == other; }
  @Override public int getTransactionTimeout() { return 0; }
  @Override public boolean setTransactionTimeout(int seconds) { return false; }
}
