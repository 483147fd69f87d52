/** A line typed on the terminal. */
import { standardInput, writeTo } from '#platform';

export async function askLine(question: string): Promise<string> {
  await writeTo('stderr', question);
  let text = '';
  for await (const chunk of standardInput()) {
    text += (chunk as Buffer).toString('utf8');
    if (text.includes('\n')) break;
  }
  return text.split('\n')[0] ?? '';
}
