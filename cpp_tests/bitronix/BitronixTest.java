import bitronix.tm.BitronixTransactionManager;
import bitronix.tm.Configuration;
import bitronix.tm.TransactionManagerServices;
import bitronix.tm.resource.ehcache.EhCacheXAResourceProducer;
import com.sun.jna.NativeLibrary;
import java.io.File;
import javax.transaction.RollbackException;
import javax.transaction.xa.XAResource;

/**
 * Bitronix, a transaction manager of Java's, over two khonsu databases: transfers, rollbacks, branches that vote
 * read-only, and the end of the process (as by kill -9) where the second argument says. BitronixTest FOLDER [PLACE]
 *
 * <p>Prints "sum N, moved M, in doubt D" after the recovery and the transactions.
 */
public final class BitronixTest {
  private static final NativeLibrary WORK = NativeLibrary.getInstance("work");
  private static String place = "";

  /** Ends the process where it was told to. */
  static void reach(String name) {
    if (name.equals(place)) Runtime.getRuntime().halt(137);
  }

  private static void add(int rmid, String account, long amount) {
    int status = WORK.getFunction("work_add").invokeInt(new Object[] {rmid, account, amount});
    if (status != 0) throw new IllegalStateException("work_add: status " + status);
  }

  private static long balance(int rmid, String account) {
    return (Long) WORK.getFunction("work_balance").invoke(Long.class, new Object[] {rmid, account});
  }

  private static void transfer(BitronixTransactionManager manager, KhonsuXaResource[] resources, long amount,
      boolean commits) throws Exception {
    manager.begin();
    for (KhonsuXaResource resource : resources) manager.getTransaction().enlistResource(resource);
    add(1, "left", -amount);
    add(2, "right", amount);
    for (KhonsuXaResource resource : resources) {
      manager.getTransaction().delistResource(resource, XAResource.TMSUCCESS);
    }
    if (commits) {
      manager.commit();
    } else {
      manager.rollback();
    }
  }

  public static void main(String[] arguments) throws Exception {
    String folder = arguments[0];
    KhonsuXaResource[] resources = new KhonsuXaResource[2];
    Configuration configuration = TransactionManagerServices.getConfiguration();
    configuration.setServerId("khonsu-test");
    configuration.setLogPart1Filename(new File(folder, "journal-1").getPath());
    configuration.setLogPart2Filename(new File(folder, "journal-2").getPath());
    configuration.setMaxLogSizeInMb(1);
    configuration.setDisableJmx(true);
    for (int i = 0; i < 2; i++) {
      resources[i] = new KhonsuXaResource(i + 1, "path=" + folder + "/" + (i + 1) + ".khonsu");
      resources[i].open();
      EhCacheXAResourceProducer.registerXAResource("khonsu-" + (i + 1), resources[i]);
    }
    /* Its start recovers what a process before has left in doubt. */
    BitronixTransactionManager manager = TransactionManagerServices.getTransactionManager();

    transfer(manager, resources, 3, true);
    transfer(manager, resources, 1000, false);

    /* Two branches, the second of which has nothing to commit. */
    manager.begin();
    for (KhonsuXaResource resource : resources) manager.getTransaction().enlistResource(resource);
    add(1, "untouched", 0);
    manager.commit();

    /* Marked by the application. */
    manager.begin();
    manager.getTransaction().enlistResource(resources[0]);
    add(1, "left", 5000);
    manager.setRollbackOnly();
    try {
      manager.commit();
      throw new IllegalStateException("a transaction that was marked rollback-only has committed");
    } catch (RollbackException expected) {
      /* as it should be */
    }

    /* One resource: in one phase. */
    manager.begin();
    manager.getTransaction().enlistResource(resources[0]);
    add(1, "left", -1);
    add(1, "beside", 1);
    manager.commit();

    place = arguments.length > 1 ? arguments[1] : "";
    transfer(manager, resources, 7, true);
    if (!place.isEmpty()) throw new IllegalStateException("the process did not come to " + place);

    int inDoubt = 0;
    for (KhonsuXaResource resource : resources) inDoubt += resource.recover(XAResource.TMSTARTRSCAN).length;
    long sum = balance(1, "left") + balance(1, "beside") + balance(2, "right");
    System.out.println("sum " + sum + ", moved " + balance(2, "right") + ", in doubt " + inDoubt);
    manager.shutdown();
    System.exit(0);
  }
}
