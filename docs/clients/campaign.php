<?php
/**
 * A small client of dialerd's API in plain PHP (8.1 or later, no extension but those of php-cli); and, run as a program, a
 * whole campaign.
 *
 *     DIALER_URL=http://127.0.0.1:8088 DIALER_KEY=dk_… php campaign.php contacts.csv
 *
 * Copy it, and keep what you need.
 */

declare(strict_types=1);

/** A living event stream sends something every 15 seconds; after this the connection is dead, whatever TCP thinks. */
const SILENCE_SECONDS = 45;
const TRIES = 6;
const LONGEST_PAUSE_SECONDS = 10.0;

/** The daemon refused. The error code is for programs and does not change; the message is for people. */
final class Problem extends RuntimeException
{
    public readonly string $error;

    public function __construct(public readonly int $status, string $body)
    {
        $said = json_decode($body, true) ?? [];
        $this->error = $said['code'] ?? "http_$status";
        $fields = '';
        foreach ($said['errors'] ?? [] as $each) {
            $fields .= '; ' . ($each['field'] ?? $each['row']) . ': ' . $each['message'];
        }
        parent::__construct(($said['detail'] ?? substr($body, 0, 200)) . " ($this->error)$fields");
    }
}

/** The connection was lost, or never made. */
final class Lost extends RuntimeException
{
}

final class Client
{
    private string $base;

    public function __construct(string $url, private string $key, private float $timeout = 60.0)
    {
        $this->base = rtrim($url, '/') . '/api/v1';
    }

    /**
     * Send one request; return the answer's JSON as an array, or its text. Throws Problem or Lost.
     *
     * A request that is lost on the way is sent again. For POST that is safe only because of its Idempotency-Key: the daemon
     * answers the second as it answered the first, and does nothing again.
     */
    public function ask(string $method, string $path, array|string|null $body = null, string $kind = 'application/json'): mixed
    {
        $headers = [];
        if ($body !== null) {
            $headers[] = "Content-Type: $kind";
        }
        if ($method === 'POST') {
            $headers[] = 'Idempotency-Key: ' . bin2hex(random_bytes(16));
        }
        $data = is_array($body) ? json_encode($body, JSON_THROW_ON_ERROR) : $body;
        for ($attempt = 1;; $attempt++) {
            try {
                [$stream, $status, $answered] = $this->open($method, $path, $data, $headers, $this->timeout);
                $text = stream_get_contents($stream);
                $cut = stream_get_meta_data($stream)['timed_out'];
                fclose($stream);
                $length = $answered['content-length'] ?? null;
                if ($text === false || $cut || ($length !== null && strlen($text) < (int) $length)) {
                    throw new Lost('the answer broke off');
                }
                if ($status < 400) {
                    return str_contains($answered['content-type'] ?? '', 'json') ? json_decode($text, true) : $text;
                }
                if ($attempt >= TRIES || !in_array($status, [429, 502, 503, 504], true)) {
                    throw new Problem($status, $text);
                }
                pause($attempt, (float) ($answered['retry-after'] ?? 0));
            } catch (Lost $lost) {
                if ($attempt >= TRIES) {
                    throw $lost;
                }
                pause($attempt);
            }
        }
    }

    /** Send a form with a CSV file. (It is held in memory here: send a list of millions as text/csv from a file.) */
    public function upload(string $path, array $fields, string $file): mixed
    {
        $boundary = bin2hex(random_bytes(16));
        $body = '';
        foreach ($fields as $name => $value) {
            $body .= "--$boundary\r\nContent-Disposition: form-data; name=\"$name\"\r\n\r\n$value\r\n";
        }
        $body .= "--$boundary\r\nContent-Disposition: form-data; name=\"contacts\"; filename=\"contacts.csv\"\r\n"
            . "Content-Type: text/csv\r\n\r\n" . file_get_contents($file) . "\r\n--$boundary--\r\n";
        return $this->ask('POST', $path, $body, "multipart/form-data; boundary=$boundary");
    }

    /** A campaign's events, those of the past first, without gap or repeat however often the connection is lost. */
    public function events(string $campaign, string $after = '0'): Generator
    {
        $failures = 0;
        while (true) {
            try {
                $headers = ['Accept: text/event-stream', "Last-Event-ID: $after"];
                [$stream, $status] = $this->open('GET', "/campaigns/$campaign/events", null, $headers, SILENCE_SECONDS);
                if ($status >= 400 && !in_array($status, [429, 502, 503, 504], true)) {
                    throw new Problem($status, (string) stream_get_contents($stream));
                }
                foreach ($status < 400 ? parse($stream) : [] as $event) {
                    $failures = 0;
                    // Only now, for it came whole: half of an event is asked for again.
                    $after = $event['id'];
                    yield $event;
                }
                fclose($stream);
            } catch (Lost) {
                // Below it is tried again.
            }
            if (++$failures > TRIES) {
                throw new Lost('the event stream cannot be had');
            }
            pause($failures);
        }
    }

    /** @return array{resource, int, array<string, string>} the answer's body, its status and its headers */
    private function open(string $method, string $path, ?string $data, array $headers, float $timeout): array
    {
        $headers = ["Authorization: Bearer $this->key", 'Connection: close', ...$headers];
        $http = ['method' => $method, 'header' => $headers, 'timeout' => $timeout, 'ignore_errors' => true];
        // HTTP/1.0 has no chunks: PHP would wait for 8 kB of them before it gave the first line of an event stream.
        $http['protocol_version'] = 1.0;
        if ($data !== null) {
            $http['content'] = $data;
        }
        $stream = @fopen($this->base . $path, 'r', false, stream_context_create(['http' => $http]));
        if ($stream === false) {
            throw new Lost(error_get_last()['message'] ?? 'no connection');
        }
        $answered = [];
        $status = 0;
        foreach (stream_get_meta_data($stream)['wrapper_data'] as $line) {
            if (preg_match('#^HTTP/\S+ (\d+)#', $line, $found)) {
                [$status, $answered] = [(int) $found[1], []];
            } elseif (str_contains($line, ':')) {
                [$name, $value] = explode(':', $line, 2);
                $answered[strtolower($name)] = trim($value);
            }
        }
        return [$stream, $status, $answered];
    }
}

/** Wait longer each time, and at least as long as the daemon asked. */
function pause(int $attempt, float $askedFor = 0.0): void
{
    usleep((int) (1e6 * max($askedFor, min(LONGEST_PAUSE_SECONDS, 0.25 * 2 ** $attempt))));
}

/** Server-Sent Events (WHATWG HTML, 9.2.6), as far as the daemon uses them. Half an event is none. */
function parse($stream): Generator
{
    $fields = [];
    while (($line = fgets($stream)) !== false) {
        $line = rtrim($line, "\r\n");
        if ($line !== '') {
            [$name, $value] = [...explode(':', $line, 2), ''];
            $fields[$name] = str_starts_with($value, ' ') ? substr($value, 1) : $value;
            continue;
        }
        if (isset($fields['data'])) {
            yield ['id' => $fields['id'], 'kind' => $fields['event'], 'data' => json_decode($fields['data'], true)];
        }
        $fields = [];
    }
}

/** Make a campaign of a list, start it, follow it to its end, and print the results. */
function run(Client $client, string $contacts): void
{
    $agents = $client->ask('GET', '/agents')['data'];
    if ($agents === []) {
        $place = ['name' => 'desk', 'kind' => 'dialplan', 'context' => 'dialerd', 'exten' => 'answered'];
        $agents = [$client->ask('POST', '/agents', $place)];
    }
    $form = [
        'name' => 'From PHP',
        'agent_id' => $agents[0]['id'],
        'concurrent_calls' => '2',
        'retry' => json_encode(['busy' => ['delay_seconds' => 1, 'most' => 1]]),
    ];
    $campaign = $client->upload('/campaigns', $form, $contacts);
    $added = $campaign['import'];
    echo "{$added['added']} contacts, {$added['invalid']} rows rejected\n";
    foreach ($added['errors'] as $error) {
        echo "  row {$error['row']}: {$error['message']}\n";
    }
    foreach ($client->ask('POST', "/campaigns/{$campaign['id']}/start")['warnings'] as $warning) {
        echo "warning: $warning\n";
    }
    foreach ($client->events($campaign['id']) as $event) {
        ['id' => $id, 'kind' => $kind, 'data' => $data] = $event;
        echo rtrim("event $id: $kind {$data['phone_number']} {$data['outcome']}") . "\n";
        if ($kind === 'campaign' && in_array($data['status'], ['completed', 'cancelled'], true)) {
            break;
        }
    }
    try {
        $client->ask('POST', "/campaigns/{$campaign['id']}/pause");
    } catch (Problem $problem) {
        echo "as it should be: {$problem->getMessage()}\n";
    }
    echo $client->ask('GET', "/campaigns/{$campaign['id']}/results.csv");
}

try {
    run(new Client((string) getenv('DIALER_URL'), (string) getenv('DIALER_KEY')), $argv[1] ?? 'contacts.csv');
} catch (Problem $refused) {
    fwrite(STDERR, "refused: {$refused->getMessage()}\n");
    exit(1);
} catch (Lost $lost) {
    fwrite(STDERR, "the daemon cannot be reached: {$lost->getMessage()}\n");
    exit(1);
}
