import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Apache Kafka's command line tools one after another in one JVM, as they are: their main is called with their arguments, their
 * standard input and output are those of the request, and their exit, with its shutdown hooks, ends the call instead of the JVM.
 *
 * A request is a line of two Base64 fields: class and arguments, each ended by a zero byte; standard input. The answer is a line: the
 * exit code, and two fields of Base64: standard output, standard error.
 */
public class Tools {
    /** What an exit throws. Tools that catch it and exit once more do not change how they ended first. */
    static class Ended extends Error {
    }

    static Integer ended;

    /** What the tool wants to be done when its JVM ends: here when its call does. */
    static final Queue<Runnable> hooks = new ConcurrentLinkedQueue<>();

    static void end(int code) {
        if (ended == null) {
            ended = code;
        }
        throw new Ended();
    }

    public static void main(String[] args) throws Exception {
        PrintStream answers = System.out;
        PrintStream logs = System.err;
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in));
        Exit.setExitProcedure((code, message) -> end(code));
        Exit.setHaltProcedure((code, message) -> end(code));
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            String[] fields = line.split(" ", -1);
            String[] command = new String(Base64.getDecoder().decode(fields[0]), StandardCharsets.UTF_8).split("\0");
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            ByteArrayOutputStream err = new ByteArrayOutputStream();
            System.setIn(new ByteArrayInputStream(Base64.getDecoder().decode(fields[1])));
            System.setOut(new PrintStream(out, true, "UTF-8"));
            System.setErr(new PrintStream(err, true, "UTF-8"));
            ended = null;
            try {
                Class.forName(command[0]).getMethod("main", String[].class)
                        .invoke(null, (Object) Arrays.copyOfRange(command, 1, command.length));
            } catch (InvocationTargetException e) {
                if (ended == null) {
                    ended = 1;
                    e.getCause().printStackTrace(System.err);
                }
            }
            for (Runnable hook = hooks.poll(); hook != null; hook = hooks.poll()) {
                hook.run();
            }
            System.out.flush();
            System.err.flush();
            System.setErr(logs);
            Base64.Encoder enc = Base64.getEncoder();
            answers.println((ended == null ? 0 : ended) + " " + enc.encodeToString(out.toByteArray()) + " " + enc.encodeToString(err.toByteArray()));
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }
}
